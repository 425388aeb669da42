//! Stable names of the values of an enum, and the list of all of them, from one place.

/// Gives an enum its stable names, by a method, and `NAMES`, the list of all of them: a value that is not named does not
/// compile, so the list is whole.
macro_rules! stable_names {
    ($enum:ident, $(#[$doc:meta])* fn $name:ident(self) { $($value:pat => $text:literal,)+ }) => {
        impl $enum {
            /// Every stable name.
            pub const NAMES: &[&str] = &[$($text),+];

            $(#[$doc])*
            pub const fn $name(self) -> &'static str {
                match self {
                    $($value => $text,)+
                }
            }
        }
    };
    ($enum:ident, $(#[$doc:meta])* fn $name:ident(&self) { $($value:pat => $text:literal,)+ }) => {
        impl $enum {
            /// Every stable name.
            pub const NAMES: &[&str] = &[$($text),+];

            $(#[$doc])*
            pub const fn $name(&self) -> &'static str {
                match self {
                    $($value => $text,)+
                }
            }
        }
    };
}

pub(crate) use stable_names;
