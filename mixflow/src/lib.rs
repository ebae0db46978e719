//! mixflow
