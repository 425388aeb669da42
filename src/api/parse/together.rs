//! Several fields at once, so that everything that is wrong with a request is told in one answer.

use super::Parsed;
use crate::api::status::{ApiError, Violation};

/// Fields that were read one by one: `(pool, amount, time).together()?`.
pub trait Together {
    /// Their values.
    type Values;

    /// The values, or everything that is wrong with them.
    fn together(self) -> Result<Self::Values, ApiError>;
}

fn keep<T>(parsed: Parsed<T>, wrong: &mut Vec<Violation>) -> Option<T> {
    parsed.map_err(|violation| wrong.push(violation)).ok()
}

macro_rules! together {
    ($($value:ident)+) => {
        impl<$($value),+> Together for ($(Parsed<$value>,)+) {
            type Values = ($($value,)+);

            #[allow(non_snake_case)]
            fn together(self) -> Result<Self::Values, ApiError> {
                let ($($value,)+) = self;
                let mut wrong = Vec::new();
                $(let $value = keep($value, &mut wrong);)+
                match ($($value,)+) {
                    ($(Some($value),)+) => Ok(($($value,)+)),
                    _ => Err(ApiError::Invalid(wrong)),
                }
            }
        }
    };
}

together!(A B);
together!(A B C);
together!(A B C D);
together!(A B C D E);
together!(A B C D E F);
together!(A B C D E F G);
together!(A B C D E F G H);
together!(A B C D E F G H I);
together!(A B C D E F G H I J);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::parse::Path;

    #[test]
    fn everything_that_is_wrong_is_told() {
        assert_eq!((Ok(1), Ok("a")).together(), Ok((1, "a")));
        let wrong = |name| -> Parsed<u8> { Err(Path::of(name).missing()) };
        let Err(ApiError::Invalid(all)) = (wrong("a"), Ok(2), wrong("c")).together() else { panic!("two are wrong") };
        assert_eq!(all.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }
}
