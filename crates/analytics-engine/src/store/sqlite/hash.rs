//! People as numbers that only this store can make.

use std::hash::Hasher as _;

use analytics_spec::{AnyInput, event::Person};
use siphasher::sip::SipHasher13;

use super::super::People;

/// SipHash-1-3 under the store's own key: the same as long as it lives.
#[derive(Clone, Copy)]
pub(super) struct Hasher {
    key: [u8; 16],
}

impl Hasher {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    pub(super) fn person(&self, person: Person<'_>) -> u64 {
        let (space, id) = match person {
            Person::User(id) => (b'u', id),
            Person::Anonymous(id) => (b'a', id),
        };
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&[space]);
        hasher.write(id.as_bytes());
        hasher.finish()
    }

    pub(super) fn people(&self, input: &AnyInput) -> People {
        input.event.people().map(|p| self.person(p)).collect()
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_the_same() {
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let hasher = Hasher::new(key);
        // They are on disk: a change of them would be a change of the format.
        assert_eq!(hasher.person(Person::User("u1")), HASHES[0]);
        assert_eq!(hasher.person(Person::Anonymous("u1")), HASHES[1]);
        let other = Hasher::new([1; 16]);
        assert_ne!(other.person(Person::User("u1")), HASHES[0]);
    }

    const HASHES: [u64; 2] = [14_517_587_673_229_302_586, 13_904_170_918_033_957_078];
}
