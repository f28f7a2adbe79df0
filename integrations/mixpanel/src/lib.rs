//! Mixpanel for the analytics specification.
//!
//! ```no_run
//! use analytics_mixpanel::{Calls, Config, Track};
//!
//! # async fn run() -> Result<(), analytics_mixpanel::Error> {
//! let mixpanel = Config::new("your project token").build()?;
//! mixpanel
//!     .track(
//!         Track::new("Order Completed")
//!             .user_id("u1")
//!             .property("revenue", 42.5),
//!     )
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each call returns when Mixpanel has accepted the event, or refused it for
//! good; failures that may pass are retried. With an engine, the same instance
//! carries many events in batches.
//!
//! # Mapping
//!
//! | event | requests, in this order |
//! |---|---|
//! | track | `/import`: the event with its properties |
//! | page, screen | `/import`: `Loaded a Page`, `Loaded a Screen`, or what [`Config::page_name`] and [`Config::screen_name`] make of the name, which is also among the properties |
//! | identify | `/import`, if there are both ids: an event that links them. `/engage`, if there are traits: `$set` on the profile |
//! | group | `/groups`, if there are traits: `$set` on the group. `/engage`: `$union` of the group's id into [`Config::group_key`] on the profile, so that memberships add up |
//! | alias | `/import`: `$create_alias`, if [`Config::id_merge`] is [`IdMerge::Original`]; not supported otherwise |
//! | delete | `/engage`: `$delete` of the profile; or, if [`Config::deletion`] is [`Deletion::Gdpr`], the data-deletion API, which deletes the events as well |
//!
//! - An event counts as delivered when all its requests have succeeded. A
//!   retry repeats only those that have not.
//! - An `identify` with one id and without traits gives Mixpanel nothing: it is
//!   a validation error, not a silent success.
//! - The traits of `track`, `alias` and `delete` are not sent: Mixpanel has no
//!   place for them there.
//!
//! # Identity
//!
//! | | simplified (the default) | original |
//! |---|---|---|
//! | `distinct_id` | the user's id, else `$device:` and the anonymous id | the user's id, else the anonymous id |
//! | link | `$identify` with `$user_id` and `$device_id`, as any event with both | `$identify` if the anonymous id is a UUIDv4, else `$merge` |
//!
//! Events carry `$user_id` and `$device_id` as far as they are known.
//! `distinct_id` is also whose profile `/engage` changes. A project has one of
//! the two, and keeps it once it holds data:
//! [identity management](https://docs.mixpanel.com/docs/tracking-methods/id-management).
//!
//! # Properties of events
//!
//! Properties go along as they are, except for these names, which Mixpanel
//! reads as instructions and which are set here, if at all: `time`, `id`,
//! `distinct_id`, `$insert_id`, `$user_id`, `$device_id`, `$anon_id`,
//! `$group_id`, `token`, `ip`, `bucket`, `$ignore`. To analyse events by group,
//! set [`Config::group_key`] to a name of your own, and give events a property
//! of that name.
//!
//! | property | from |
//! |---|---|
//! | `time` | `timestamp`, in milliseconds |
//! | `$insert_id` | `message_id`; if Mixpanel does not take that (36 bytes of letters, digits and `-`), a UUID made of it |
//! | `ip` | `ip`, else `0`, so that Mixpanel does not locate the server that sends |
//! | `$os`, `$os_version` | `os.name`, `os.version` |
//! | `$browser`, `$browser_version` | `browser`, a name or `{name, version}`; user agents are not parsed |
//! | `$current_url` | `page.url` |
//! | `$referrer` | `page.referrer`, else `referrer.url` |
//! | `$app_version_string`, `$app_build_number` | `app.version`, `app.build_id` |
//! | `$manufacturer`, `$model`, `$brand` | `device.manufacturer`, `device.model`, `device.brand` |
//! | `$screen_width`, `$screen_height` | `screen.width`, `screen.height` |
//! | `$carrier`, `$wifi` | `network.carrier`, `network.wifi` |
//! | `$city`, `$region` | `location.city`, `location.region` |
//! | `mp_country_code` | `location.country`, if it is two letters |
//! | `utm_source`, `utm_medium`, `utm_campaign`, `utm_term`, `utm_content` | `campaign.source`, `.medium`, `.name`, `.term`, `.content` |
//! | `mp_lib` | `library.name`, else `analytics-rust` |
//!
//! From `$os` on, a property of the event with the same name wins.
//!
//! # Properties of profiles
//!
//! | property | from the trait |
//! |---|---|
//! | `$first_name`, `$last_name`, `$name`, `$email`, `$phone`, `$avatar`, `$username` | the same without `$` |
//! | `$created` | `created_at`, else `created` |
//! | `$name` | `first_name` and `last_name`, if both are there and `name` is not |
//! | `$city`, `$region` | `address.city`, `address.state` or `address.region` |
//! | `$country_code` | `address.country`, if it is two letters |
//!
//! Everything else goes along as it is, and so does a trait whose place is
//! taken by one that has Mixpanel's name already. A group's `name` becomes
//! `$name`. A profile is located by the `ip` of an `identify`, and never by the
//! server that sends.
//!
//! # What is refused before anything is sent
//!
//! - Ids that stand for nobody, such as `anonymous`, `null` or `0`: Mixpanel
//!   refuses them in events, and would make one user of many in profiles.
//! - With the simplified identity merge, an anonymous id of more than 247
//!   characters: with its prefix, Mixpanel would cut it.
//! - Records of 1 MB and more; events with 255 properties and more, or with an
//!   object or a list of as many; events from before 1971.
//!
//! Mixpanel keeps 255 characters of a string. It refuses objects nested too
//! deeply, and events of more than an hour in the future.
//!
//! # Requests and answers
//!
//! A request carries up to 2,000 records and 2 MB; a deletion, up to 1,999
//! users. Events are compressed, profiles are not: Mixpanel does not take that.
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx that says so | delivered |
//! | 400, or 2xx, that names records as failed | those are refused for good, with Mixpanel's words; the others are delivered |
//! | 2xx with `0`, `"status": 0` or an error, as `/engage` and `/groups` answer what they refuse | refused for good; if there are several records, they are sent again in halves, until the refused one is alone |
//! | 2xx that says nothing of this | sent again: Mixpanel recognises a repeated event by its name, `time`, `distinct_id` and `$insert_id`, and a repeated profile comes to the same |
//! | 413 | halved; a single record is refused for good |
//! | 400, 401, 403 and other 4xx | refused for good |
//! | 408, 429, 5xx, no answer | sent again after 2 s, doubling up to 60 s, or when `Retry-After` says |
//! | a deletion's answer that names no task | refused for good |

mod alias;
mod config;
mod context;
mod delete;
mod event;
mod group;
mod identify;
mod ids;
mod outcome;
mod page;
mod profile;
mod screen;
mod template;
mod track;
mod vendor;

pub use analytics_spec::{
    Alias, Calls, Context, Delete, Error, ErrorKind, Group, Identify, Input, Output, Page, Screen,
    Track,
};
pub use config::{ComplianceType, Config, Deletion, IdMerge, Region};
pub use vendor::{MixpanelVendor, Route};

/// A Mixpanel project: an [`Integration`](analytics_spec::Integration), and by
/// itself a client with retries.
pub type Mixpanel = analytics_http::Client<MixpanelVendor>;
