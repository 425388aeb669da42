//! Pages of lists, and cursors of streams.

use prost::Message;

use super::token::{Binding, TokenError};
use super::{Parsed, Path};
use crate::domain::ids::PoolId;
use crate::pb::v1;

/// How many entries a page has when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 50;

/// The most entries of a page.
pub const MAX_PAGE_SIZE: usize = 1_000;

/// A request for a page.
pub trait Paged: Message + Clone {
    /// The name of its RPC.
    const METHOD: &'static str;

    /// How many entries it asks for.
    fn size(&self) -> i32;

    /// Where it goes on.
    fn token(&self) -> &str;

    /// The request without size and token: what the list is filtered by.
    fn filter(&self) -> Self;
}

macro_rules! paged {
    ($($request:ty => $method:literal;)*) => {$(
        impl Paged for $request {
            const METHOD: &'static str = $method;

            fn size(&self) -> i32 {
                self.page_size
            }

            fn token(&self) -> &str {
                &self.page_token
            }

            fn filter(&self) -> Self {
                let mut filter = self.clone();
                filter.page_size = 0;
                filter.page_token.clear();
                filter
            }
        }
    )*};
}

paged! {
    v1::ListPayoutsRequest => "AccountService/ListPayouts";
    v1::ListEnrolmentsRequest => "AccountService/ListEnrolments";
    v1::ListPoolsRequest => "PoolService/ListPools";
    v1::ListValidatorsRequest => "PoolService/ListValidators";
    v1::ListDelegationsRequest => "PoolService/ListDelegations";
    v1::ListDistributionsRequest => "PoolService/ListDistributions";
    v1::ListOperationsRequest => "PoolService/ListOperations";
    v1::ListSourcesRequest => "AdminService/ListSources";
    v1::ListApprovalsRequest => "AdminService/ListApprovals";
    v1::ListAuditEventsRequest => "AdminService/ListAuditEvents";
}

/// Which page is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most entries on it.
    pub size: usize,
    /// The position of the last entry of the page before, as [`Page::next`] was given it; `None` for the first page.
    pub after: Option<Vec<u8>>,
    binding: Binding,
}

impl Page {
    /// The token of the page after this one, whose last entry is at `position`.
    pub fn next(&self, position: &[u8]) -> String {
        self.binding.token(position)
    }
}

/// The page that a request asks for.
pub fn page<R: Paged>(request: &R) -> Parsed<Page> {
    let path = Path::of("page_size");
    let size = usize::try_from(request.size()).map_err(|_| {
        path.wrong("PAGE_SIZE_NEGATIVE", format!("is from 0 (the default of {DEFAULT_PAGE_SIZE}) to {MAX_PAGE_SIZE}"))
    })?;
    let size = if size == 0 { DEFAULT_PAGE_SIZE } else { size.min(MAX_PAGE_SIZE) };
    let binding = Binding::new(R::METHOD, &request.filter().encode_to_vec());
    let after = position(&Path::of("page_token"), &binding, request.token())?;
    Ok(Page { size, after, binding })
}

/// The place in a stream that its reader goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The position of the last item dealt with, as [`Cursor::next`] was given it; `None` for the beginning.
    pub after: Option<Vec<u8>>,
    binding: Binding,
}

impl Cursor {
    /// The cursor of the item at `position`.
    pub fn next(&self, position: &[u8]) -> String {
        self.binding.token(position)
    }
}

/// The cursor of the stream `method`, of one pool or of all.
pub fn cursor(path: &Path<'_>, method: &str, pool: Option<&PoolId>, token: &str) -> Parsed<Cursor> {
    let binding = Binding::new(method, pool.map_or("", PoolId::as_str).as_bytes());
    let after = position(path, &binding, token)?;
    Ok(Cursor { after, binding })
}

fn position(path: &Path<'_>, binding: &Binding, token: &str) -> Parsed<Option<Vec<u8>>> {
    let position = (!token.is_empty()).then(|| binding.position(token)).transpose();
    position.map_err(|error| match error {
        TokenError::Malformed => path.wrong("TOKEN_MALFORMED", "is not a token that this service has given out"),
        TokenError::Foreign => {
            path.wrong("TOKEN_FOREIGN", "belongs to another call or another filter: send every other field as it was")
        }
    })
}
