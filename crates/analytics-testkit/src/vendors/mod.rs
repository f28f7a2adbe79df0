//! The vendors: one file each, with that vendor's rules and nothing else. A
//! scripted vendor is written from the vendor's documentation, and shares
//! nothing with the integration that it tests: a misreading in one of them
//! shows.

mod checks;
mod stage;

pub use stage::{Stage, Staged, Staging};

/// One line a vendor: its file, and the rules in it.
macro_rules! vendors {
    ($($file:ident: $Vendor:ident),* $(,)?) => {
        $(
            mod $file;
            pub use $file::*;
        )*

        /// Every vendor that is here, by name.
        pub const STAGES: &[Staging] = &[$(Staging::of::<$file::$Vendor>()),*];
    };
}

vendors! {
    amplitude: AmplitudeVendor,
    mailchimp: MailchimpVendor,
    mixpanel: MixpanelVendor,
    posthog: PosthogVendor,
    segment: SegmentVendor,
    webhook: WebhookVendor,
}
