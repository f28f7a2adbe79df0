use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of the seven calls an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Who a user is.
    Identify,
    /// What a user did.
    Track,
    /// Which group a user belongs to.
    Group,
    /// Two ids are one user.
    Alias,
    /// A page that a user saw.
    Page,
    /// A screen that a user saw.
    Screen,
    /// Forget a user.
    Delete,
}

impl Kind {
    /// All kinds, in the order of the specification.
    pub const ALL: [Self; 7] = [
        Self::Identify,
        Self::Track,
        Self::Group,
        Self::Alias,
        Self::Page,
        Self::Screen,
        Self::Delete,
    ];

    /// The event's key on the wire: `identify`, `track`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Delete => "delete",
        }
    }

    /// The kind as workflow names have it: `Identify`, `Track`, ...
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Identify => "Identify",
            Self::Track => "Track",
            Self::Group => "Group",
            Self::Alias => "Alias",
            Self::Page => "Page",
            Self::Screen => "Screen",
            Self::Delete => "Delete",
        }
    }

    /// The kind whose key on the wire this is.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == key)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct KindSet(u8);

impl KindSet {
    /// No kind.
    pub const EMPTY: Self = Self(0);
    /// All seven.
    pub const ALL: Self = Self(0b111_1111);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// This set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !(1 << kind as u8))
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether the set has no kind.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the order of the specification.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for KindSet {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl<const N: usize> From<[Kind; N]> for KindSet {
    fn from(kinds: [Kind; N]) -> Self {
        kinds.into_iter().collect()
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Kind::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = KindSet::from([Kind::Delete, Kind::Identify]);
        assert_eq!(set.to_string(), "identify, delete");
        assert!(!set.contains(Kind::Track));
        assert_eq!(set.without(Kind::Delete), KindSet::from([Kind::Identify]));
        assert_eq!(KindSet::from(Kind::ALL), KindSet::ALL);
    }

    #[test]
    fn keys_and_titles_name_the_same_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_key(kind.as_str()), Some(kind));
            assert_eq!(kind.title().to_lowercase(), kind.as_str());
        }
        assert_eq!(Kind::from_key("Identify"), None);
    }
}
