//! Where a field stands in its request. Written out only when something is wrong with it.

use std::fmt;

use crate::api::status::Violation;

/// The path of a field, such as `rows.events[3].balance.base_units`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    above: Option<&'a Path<'a>>,
    name: &'static str,
    index: Option<usize>,
}

impl<'a> Path<'a> {
    /// A field of the request itself.
    pub const fn of(name: &'static str) -> Self {
        Self { above: None, name, index: None }
    }

    /// A field of this message.
    pub const fn field(&'a self, name: &'static str) -> Self {
        Self { above: Some(self), name, index: None }
    }

    /// An entry of this repeated field.
    pub const fn item(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// This field is wrong.
    pub fn wrong(&self, reason: &'static str, description: impl Into<String>) -> Violation {
        Violation { field: self.to_string(), reason, description: description.into() }
    }

    /// This field is missing.
    pub fn missing(&self) -> Violation {
        self.wrong("FIELD_REQUIRED", "is required")
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}.")?;
        }
        f.write_str(self.name)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}
