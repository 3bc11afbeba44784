//! The lot against a reference model.
