//! One message a stage.
