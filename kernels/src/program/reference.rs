//! The oracle of whole programs: see the stage crate.
