//! A map that forgets its oldest entries.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map with a capacity: beyond it, what was inserted first is forgotten.
///
/// A scripted vendor may run for days as a sandbox; its state must not grow
/// with the traffic.
#[derive(Clone, Debug)]
pub struct Remembered<K, V> {
    entries: HashMap<K, (u64, V)>,
    order: VecDeque<(u64, K)>,
    next: u64,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    /// The value under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value under a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    /// Puts a value under a key and forgets the oldest beyond `capacity`. A key
    /// that is there keeps its age.
    pub fn insert(&mut self, key: K, value: V, capacity: usize) {
        if let Some((_, known)) = self.entries.get_mut(&key) {
            *known = value;
            return;
        }
        self.entries.insert(key.clone(), (self.next, value));
        self.order.push_back((self.next, key));
        self.next += 1;
        while self.entries.len() > capacity {
            let Some((age, oldest)) = self.order.pop_front() else {
                break;
            };
            // An entry that was removed and came back is younger than this.
            if self
                .entries
                .get(&oldest)
                .is_some_and(|(born, _)| *born == age)
            {
                self.entries.remove(&oldest);
            }
        }
        // Removals leave ages behind; they must not pile up either.
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.order
                .retain(|(age, key)| entries.get(key).is_some_and(|(born, _)| born == age));
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut map = Remembered::default();
        for key in 0..5 {
            map.insert(key, (), 3);
        }
        assert_eq!(map.len(), 3);
        assert!(!map.contains(&1) && map.contains(&2) && map.contains(&4));
    }

    #[test]
    fn a_removed_key_that_returns_is_young_again() {
        let mut map = Remembered::default();
        map.insert("a", 1, 2);
        map.insert("b", 1, 2);
        map.remove(&"a");
        map.insert("a", 2, 2);
        map.insert("c", 1, 2);
        assert_eq!(map.get(&"a"), Some(&2));
        assert!(!map.contains(&"b"));
    }

    #[test]
    fn coming_and_going_leaves_nothing_behind() {
        let mut map = Remembered::default();
        for key in 0..10_000 {
            map.insert(key, (), 10);
            map.remove(&key);
        }
        assert!(map.is_empty());
        assert!(map.order.len() < 32);
    }
}
