//! Mailchimp for the analytics specification.
//!
//! ```no_run
//! use analytics_mailchimp::{Calls, Config, Identify};
//!
//! # async fn run() -> Result<(), analytics_mailchimp::Error> {
//! let mailchimp = Config::new("your key-us21", "your audience id").build()?;
//! mailchimp
//!     .identify(
//!         Identify::new()
//!             .user_id("u1")
//!             .trait_("email", "ada@example.com")
//!             .trait_("first_name", "Ada"),
//!     )
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each call returns when Mailchimp has accepted the event, or refused it for
//! good; failures that may pass are retried. Every event is one request of the
//! [Marketing API](https://mailchimp.com/developer/marketing/api/), and at most
//! ten are under way at once, which is what Mailchimp allows a key.
//!
//! | event | request, below `/3.0/lists/{audience_id}/members/{hash}` |
//! |---|---|
//! | identify | [`PUT`](https://mailchimp.com/developer/marketing/api/list-members/add-or-update-list-member/): adds the member or updates it |
//! | track | [`POST /events`](https://mailchimp.com/developer/marketing/api/list-member-events/add-event/) |
//! | group | [`POST /tags`](https://mailchimp.com/developer/marketing/api/list-member-tags/add-or-remove-member-tags/), if [`Config::group_as_tag`] |
//! | delete | [`DELETE`](https://mailchimp.com/developer/marketing/api/list-members/archive-list-member/), or [`POST /actions/delete-permanent`](https://mailchimp.com/developer/marketing/api/list-members/delete-list-member/): see [`RegulationType`] |
//! | alias, page, screen | not supported |
//!
//! # Who a member is
//!
//! Mailchimp knows a person by their email address and by nothing else. It is
//! `traits.email`, else a `user_id` that is itself an email address; of a group
//! only the latter, for a group's traits are the company's. The `user_id` is
//! not sent: a user who identifies with two addresses becomes two members, and
//! a delete reaches the one whose address it names.
//!
//! An identify never changes whether an existing member is subscribed, so that
//! nobody who left is brought back. New members are subscribed, or asked first
//! under [`Config::enable_double_opt_in`].
//!
//! # What a member is told
//!
//! | from | to |
//! |---|---|
//! | `traits.first_name`, `traits.last_name` | the merge fields `FNAME`, `LNAME` |
//! | traits named in [`Config::merge_fields`] | the merge field with that tag |
//! | `context.locale` | `language`, if Mailchimp has the language |
//! | `context.ip` | `ip_signup` |
//! | `context.location` | `location`, if both coordinates are there |
//!
//! In a merge field, strings and numbers stay as they are, and booleans become
//! text; nulls and arrays are left out. An object is an address: its `street`
//! (or `addr1`), `addr2`, `city`, `state`, `postal_code` (or `zip`) and
//! `country` are taken, and it is left out unless all but `addr2` and `country`
//! are there. A birthday (the trait `birthday`, or the tag `BIRTHDAY`) is
//! `MM/DD` or an ISO date, and is sent as `MM/DD`.
//!
//! # What an event is told
//!
//! A track's name becomes 2 to 30 letters, digits, `_` and `-`; other
//! characters become `_`. Properties become text, nested ones JSON. The event
//! has no id at Mailchimp: after a time-out it may be recorded twice.
//!
//! # What takes long
//!
//! An address that signs up at many audiences is refused "for now", with no
//! time. It is tried again every ten minutes, and a call without an engine
//! waits for that, at most
//! [`MAX_ASKED`](analytics_spec::policies::MAX_ASKED).

mod config;
mod delete;
mod group;
mod identify;
mod language;
mod member;
mod merge;
mod outcome;
#[cfg(test)]
mod testing;
mod track;
mod vendor;

pub use analytics_spec::{
    Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input, Output, Track,
};
pub use config::{Config, RegulationType};
pub use vendor::MailchimpVendor;

/// A Mailchimp audience: an [`Integration`](analytics_spec::Integration), and
/// by itself a client with retries.
pub type Mailchimp = analytics_http::Client<MailchimpVendor>;
