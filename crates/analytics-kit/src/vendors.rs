//! The list of vendors.

use std::sync::Arc;

use analytics_spec::{
    Error, Integration, Kind, Map, Value,
    config::{self, Instance, VendorConfig},
    integration::Support,
};

/// A vendor that a configuration may name: one that this project has an integration
/// for, or [one of one's own](Self::of).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Vendor {
    /// Its name, in lower case; the feature that compiles it in is called the
    /// same.
    pub name: &'static str,
    code: Option<Code>,
}

/// What a vendor's crate is asked, if it is compiled in.
#[derive(Clone, Copy, Debug)]
struct Code {
    keys: fn() -> &'static [&'static str],
    support: fn(Kind) -> Support,
    build: Build,
}

type Build = fn(Map<String, Value>, Instance, Env<'_>) -> Result<Arc<dyn Integration>, Error>;

/// Looks a variable up in the environment.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One line a vendor: its feature, its crate, and the crate's name here.
macro_rules! vendors {
    ($($feature:literal: $krate:ident as $name:ident),* $(,)?) => {
        $(
            #[cfg(feature = $feature)]
            pub use $krate as $name;
        )*

        /// Every vendor, by name, whether it is compiled in or not.
        pub const VENDORS: &[Vendor] = &[$(
            Vendor {
                name: $feature,
                #[cfg(feature = $feature)]
                code: Some(Code::of::<$krate::Config>()),
                #[cfg(not(feature = $feature))]
                code: None,
            },
        )*];
    };
}

vendors! {
    "amplitude": analytics_amplitude as amplitude,
    "mailchimp": analytics_mailchimp as mailchimp,
    "mixpanel": analytics_mixpanel as mixpanel,
    "posthog": analytics_posthog as posthog,
    "segment": analytics_segment as segment,
    "webhook": analytics_webhook as webhook,
}

impl Code {
    const fn of<C: VendorConfig>() -> Self {
        Self {
            keys: config::keys::<C>,
            support: C::support,
            build: |table, instance, env| {
                let integration = config::read::<C>(table, env)?.build_as(instance)?;
                Ok(Arc::new(integration))
            },
        }
    }
}

impl Vendor {
    /// The vendor that a crate of one's own is for.
    #[must_use]
    pub const fn of<C: VendorConfig>() -> Self {
        Self {
            name: C::VENDOR,
            code: Some(Code::of::<C>()),
        }
    }

    /// The vendor of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        VENDORS.iter().find(|vendor| vendor.name == name)
    }

    /// Whether its feature is on.
    #[must_use]
    pub fn is_compiled_in(&self) -> bool {
        self.code.is_some()
    }

    /// What it can do with a kind of event.
    ///
    /// # Errors
    ///
    /// It is not compiled in.
    pub fn support(&self, kind: Kind) -> Result<Support, Error> {
        Ok((self.code()?.support)(kind))
    }

    /// The keys of its configuration.
    ///
    /// # Errors
    ///
    /// It is not compiled in.
    pub fn keys(&self) -> Result<&'static [&'static str], Error> {
        Ok((self.code()?.keys)())
    }

    pub(crate) fn build(
        &self,
        table: Map<String, Value>,
        instance: Instance,
        env: Env<'_>,
    ) -> Result<Arc<dyn Integration>, Error> {
        (self.code()?.build)(table, instance, env)
    }

    fn code(&self) -> Result<Code, Error> {
        self.code.ok_or_else(|| {
            Error::configuration(format!(
                "{name} is not compiled in: turn on the feature `{name}` of analytics-kit",
                name = self.name
            ))
        })
    }
}
