//! mixflow-backbones
