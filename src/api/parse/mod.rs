//! From the wire into the words of the rules. Pure: every function takes a field and its path, and gives the value or
//! says what is wrong with the field. What was read here is valid from here on.

pub mod amount;
pub mod feed;
pub mod field;
pub mod names;
mod packed;
pub mod page;
mod path;
pub mod policy;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod together;
pub mod token;

pub use path::Path;
pub use together::Together;

use super::status::Violation;

/// A value, or what is wrong with the field that it was read from.
pub type Parsed<T> = Result<T, Violation>;
