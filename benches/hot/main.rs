//! The hot pieces, each beside its bound in the same run. `benches/README.md` says what each bound is.

#![expect(clippy::expect_used, reason = "a bench fails loudly")]

mod book;
mod columns;
mod decode;
mod input;
mod split;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion::criterion_group!(
    hot,
    decode::packed,
    decode::rows,
    split::weights,
    columns::chunk,
    columns::payouts,
    book::apply,
    book::journal,
    book::freeze,
    book::commit
);
criterion::criterion_main!(hot);
