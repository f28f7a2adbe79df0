//! What an endpoint is sent of an event.

use analytics_spec::{AnyInput, Event as _};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// The envelope as it was accepted: the context, and the event under the name
/// of its kind. Policies are instructions to the sender, and stay here.
pub(crate) struct Envelope<'a>(pub(crate) &'a AnyInput);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let input = self.0;
        let mut map = serializer.serialize_map(None)?;
        if !input.context.is_empty() {
            map.serialize_entry("context", &input.context)?;
        }
        map.serialize_entry(input.event.kind().as_str(), &input.event)?;
        map.end()
    }
}
