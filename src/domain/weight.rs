//! Sums over many positions: 256 bits wide, and a hash of the whole set that no order or partitioning changes.

use ruint::aliases::U256;

use super::ids::AccountId;

/// What a set of (account, amount) comes to. Two sets join in any order; zero amounts count and leave no trace else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetSum {
    /// How many there are, zeros included.
    pub count: u64,
    /// How many are above zero.
    pub positive: u64,
    /// Their sum.
    pub sum: U256,
    /// The sum modulo 2^256 of the hash of each that is above zero.
    pub hash: U256,
}

impl SetSum {
    /// Adds one account's amount.
    pub fn add(&mut self, account: &str, amount: u128) {
        self.count += 1;
        if amount > 0 {
            self.positive += 1;
            self.sum = self.sum.wrapping_add(U256::from(amount));
            self.hash = self.hash.wrapping_add(member_hash(account, amount));
        }
    }

    /// Both sets together.
    pub fn join(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            positive: self.positive + other.positive,
            sum: self.sum.wrapping_add(other.sum),
            hash: self.hash.wrapping_add(other.hash),
        }
    }
}

/// The hash of one member: BLAKE3 of the account's length (one byte), its bytes, and the amount as 16 bytes
/// little-endian, read as a little-endian number.
pub fn member_hash(account: &str, amount: u128) -> U256 {
    // An account id has at most so many bytes, so that its length fits the byte and its bytes fit the buffer.
    let id = account.as_bytes().get(..AccountId::MAX_BYTES).unwrap_or(account.as_bytes());
    let mut bytes = [0_u8; 1 + AccountId::MAX_BYTES + 16];
    let end = 1 + id.len() + 16;
    bytes[0] = id.len() as u8;
    bytes[1..=id.len()].copy_from_slice(id);
    bytes[1 + id.len()..end].copy_from_slice(&amount.to_le_bytes());
    U256::from_le_bytes(*blake3::hash(&bytes[..end]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_and_the_cut_change_nothing() {
        let members: Vec<(String, u128)> =
            (0..50u128).map(|i| (format!("a{i}"), i * i % 7 * (u128::MAX / 9))).collect();
        let mut whole = SetSum::default();
        members.iter().for_each(|(a, x)| whole.add(a, *x));
        let (mut left, mut right) = (SetSum::default(), SetSum::default());
        members
            .iter()
            .rev()
            .enumerate()
            .for_each(|(i, (a, x))| if i % 3 == 0 { left.add(a, *x) } else { right.add(a, *x) });
        assert_eq!(left.join(right), whole);
        assert_eq!(whole.count, 50);
    }

    #[test]
    fn a_member_counts_by_account_and_amount() {
        assert_ne!(member_hash("a", 1), member_hash("a", 2));
        assert_ne!(member_hash("a", 1), member_hash("b", 1));
        let mut zero = SetSum::default();
        zero.add("a", 0);
        assert_eq!(zero, SetSum { count: 1, ..SetSum::default() });
    }
}
