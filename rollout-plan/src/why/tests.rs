//! Texts of reasons.
