//! Text encoders against the official code.

mod networks;
