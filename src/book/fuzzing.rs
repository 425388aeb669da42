//! The book's readers of stored forms, opened to `fuzz/`. What was read and written again reads the same, and takes no
//! more room than what it was read from.

use super::bytes::seal;
use super::journal::{Assembly, first_chain, peek_time};
use super::{archive, column, journal, pages, records};
use crate::domain::time::UnixSeconds;
use crate::store::fuzzing::pieces;

/// A value as it stands in the input; or the input as its content, with the checksum that belongs to it: hardly any
/// other input would get past it.
fn value(input: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (mode, rest) = input.split_first()?;
    Some((mode & 0x7f, if mode & 0x80 == 0 { seal(rest.to_vec()) } else { rest.to_vec() }))
}

fn read<T: PartialEq + std::fmt::Debug>(
    value: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let Some(read) = decode(value) else { return };
    let written = encode(&read);
    assert_eq!(decode(&written).as_ref(), Some(&read), "what was written reads the same");
    assert!(written.len() <= value.len(), "{} bytes were made of {}", written.len(), value.len());
}

/// The small records, each by a number.
pub fn small_records(input: &[u8]) {
    let Some((layout, value)) = value(input) else { return };
    match layout % 8 {
        0 => read(&value, records::decode_heads, |heads| records::encode_heads(heads)),
        1 => read(&value, records::decode_source, |(last, watermark)| records::encode_source(*last, *watermark)),
        2 => read(&value, records::decode_hashes, |hashes| records::encode_hashes(hashes.iter().copied())),
        3 => read(&value, records::decode_rejected, records::encode_rejected),
        4 => read(&value, records::decode_seal, records::encode_seal),
        5 => read(&value, records::decode_frozen, records::encode_frozen),
        6 => read(&value, records::decode_curve_page, |(index, page)| records::encode_curve_page(*index, page)),
        _ => read(&value, records::decode_manifest, records::encode_manifest),
    }
}

/// A page of positions.
pub fn page(input: &[u8]) {
    let Some((_, value)) = value(input) else { return };
    read(&value, pages::decode, |page| {
        let rows: Vec<_> = page.rows.iter().map(|(id, position, rest)| (id.as_str(), position, *rest)).collect();
        pages::encode(page.generation, page.group, rows.into_iter())
    });
}

/// A chunk of weights or of payouts. One value alone is the one that all together have in its place.
pub fn column(input: &[u8]) {
    let Some((_, value)) = value(input) else { return };
    let decode = |value: &[u8]| column::decode(value).ok();
    read(&value, decode, |values| column::encode(values).unwrap_or_default());
    let all = column::decode(&value);
    for index in 0..column::CHUNK_ORDINALS + 1 {
        assert_eq!(column::get(&value, index), all.as_ref().map(|all| all.get(index).copied()).map_err(|e| *e));
    }
}

/// An archive. Its parts stand in the input, each after its length; or the input is a run and says how it is cut.
pub fn archive(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let parts = if mode & 0x80 != 0 {
        pieces(rest).into_iter().map(<[u8]>::to_vec).collect()
    } else {
        archive::of_run(mode & 3, mode >> 2 & 15, rest)
    };
    let Some((span, values)) = archive::decode(parts.iter().map(Vec::as_slice)) else { return };
    for part in &parts {
        assert_eq!(archive::span(part), Some(span), "every part says the same");
    }
    if !values.is_empty() {
        let written: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let written = archive::encode(span, &written);
        assert_eq!(archive::decode(written.iter().map(Vec::as_slice)), Some((span, values)));
    }
}

/// A journal. Its values stand in the input, each after its length; or the input is the body of its first group.
pub fn journal(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let (mut assembly, values) = if mode & 0x80 != 0 {
        (Assembly::resume(1, None), pieces(rest).into_iter().map(<[u8]>::to_vec).collect())
    } else {
        let mut chain = first_chain(0);
        (Assembly::new(1, first_chain(0)), journal::cut(1, rest, &mut chain))
    };
    for value in values {
        let _time: Option<UnixSeconds> = peek_time(&value);
        let Ok(group) = assembly.take(&value) else { return };
        let Some(group) = group else { continue };
        let mut chain = first_chain(7);
        let mut again = Assembly::new(group.number, chain);
        let written = journal::encode(group.number, group.now, &group.records, &mut chain);
        let read = written.iter().find_map(|value| again.take(value).ok().flatten());
        assert_eq!(read.as_ref(), Some(&group), "what was written reads the same");
        assert_eq!(again.chain(), Some(chain), "and the chain goes on from it");
    }
}
