//! Opaque tokens: a position in a list or a stream, bound to what was asked for, with a checksum.
//!
//! A token is the lower-case hex of: a version byte, the binding (8 bytes), the position, a checksum (8 bytes). It is
//! no secret and no proof of anything; the checksum tells a mistyped token from one of ours.

/// The layout of tokens.
const VERSION: u8 = 1;

/// The most bytes that a position may have.
pub const MAX_POSITION_BYTES: usize = 256;

/// What a token is bound to: the list or stream, and every filter of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding([u8; 8]);

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is none of ours, or was changed on its way.
    Malformed,
    /// It is of another list, or of another filter.
    Foreign,
}

impl Binding {
    /// Binds to the list or stream `what` with the filter `filter`, in a canonical form.
    pub fn new(what: &str, filter: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softstake token binding\0").update(what.as_bytes()).update(&[0]).update(filter);
        Self(front(&hasher))
    }

    /// The token of `position`.
    pub fn token(&self, position: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(17 + position.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(position);
        bytes.extend_from_slice(&checksum(&bytes));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The position of `token`.
    pub fn position(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        let bytes = from_hex(token).ok_or(TokenError::Malformed)?;
        let (content, sum) = bytes.split_last_chunk::<8>().ok_or(TokenError::Malformed)?;
        let (version, rest) = content.split_first().ok_or(TokenError::Malformed)?;
        let (binding, position) = rest.split_first_chunk::<8>().ok_or(TokenError::Malformed)?;
        if *version != VERSION || checksum(content) != *sum || position.len() > MAX_POSITION_BYTES {
            return Err(TokenError::Malformed);
        }
        if *binding != self.0 {
            return Err(TokenError::Foreign);
        }
        Ok(position.to_vec())
    }
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softstake token\0").update(bytes);
    front(&hasher)
}

fn front(hasher: &blake3::Hasher) -> [u8; 8] {
    let mut front = [0; 8];
    hasher.finalize_xof().fill(&mut front);
    front
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * (17 + MAX_POSITION_BYTES) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}
