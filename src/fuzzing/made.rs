//! Inputs that are made of seeds, the same ones each time: what a run on seeds adds where there is no fuzzer.

/// Inputs made of seeds.
pub struct Made<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Made<'a> {
    /// Inputs made of these, of which `seed` picks the sequence.
    pub fn of(seeds: &'a [Vec<u8>], seed: u64) -> Self {
        Self { seeds, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn seed(&mut self) -> &'a [u8] {
        let place = self.below(self.seeds.len());
        self.seeds.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    /// The next one: a seed with one to eight changes.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let until = at + self.below((input.len() - at).min(32) + 1);
        match self.below(7) {
            0 => {
                let bit = 1 << self.below(8);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            1 => {
                let to = [0, 1, 0x7f, 0x80, 0xff, b'0', b'/', b'-'][self.below(8)];
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = to);
            }
            2 => input.insert(at, self.next() as u8),
            3 => drop(input.drain(at..until)),
            4 => {
                let again = input[at..until].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let numbers = [0, 1, u64::MAX, u64::from(u32::MAX), 1 << 63, self.next()];
                let (number, width) = (numbers[self.below(6)].to_le_bytes(), 1 << self.below(4));
                input.splice(at..(at + width).min(input.len()), number[..width].iter().copied());
            }
        }
    }
}
