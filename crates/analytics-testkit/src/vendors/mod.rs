//! The vendors: one file each, with that vendor's rules and nothing else.

mod checks;
mod mailchimp;
mod mixpanel;
mod segment;

pub use mailchimp::{
    MailchimpAccount, MailchimpVendor, Member, MemberEvent, MemberStatus, MergeField, MergeKind,
    ScriptedMailchimp, problem, subscriber_hash,
};
pub use mixpanel::{IdMerge, MixpanelAccount, MixpanelVendor, ScriptedMixpanel, ServiceAccount};
pub use segment::{ScriptedSegment, SegmentAccount, SegmentVendor};
