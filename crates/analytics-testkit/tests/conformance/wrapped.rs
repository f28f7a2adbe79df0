//! An integration that does not leave everything to the client, and what can go
//! wrong with it.

use analytics_http::Client;
use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Integration, Kind, KindSet, Map, Policies,
    Prepare, Prepared, PreparedAttempt, Progress, ValidationError, Value,
    integration::{Batching, Preview},
};
use async_trait::async_trait;

use crate::{
    KEY,
    acme::Acme,
    broken::Defect::{self, self as D},
};

/// An integration that does not leave everything to the client.
#[derive(Debug)]
pub(crate) struct Wrapped {
    inner: Client<Acme>,
    defect: Defect,
}

impl Wrapped {
    pub(crate) fn new(inner: Client<Acme>, defect: Defect) -> Self {
        Self { inner, defect }
    }

    fn bent(&self, outcome: Result<Delivery, Error>) -> Result<Delivery, Error> {
        match (self.defect, outcome) {
            (D::LosesAnswer, Ok(_)) => Ok(Delivery::default()),
            (D::ForgetsProgress, Err(error)) => Err(error.with_progress(Progress::NONE)),
            (D::NamesAnother, Err(error)) => Err(error.with_integration("acme")),
            (D::KeyInError, Err(error)) => Err(error.with_source(format!("with {KEY}"))),
            (D::DropsTimeouts, Err(error)) if error.kind() == ErrorKind::Timeout => {
                Err(error.with_retryable(false))
            }
            (_, outcome) => outcome,
        }
    }
}

#[async_trait]
impl Integration for Wrapped {
    fn vendor(&self) -> &'static str {
        Integration::vendor(&self.inner)
    }

    fn name(&self) -> &str {
        match self.defect {
            D::OtherName => "acme",
            _ => self.inner.name(),
        }
    }

    fn supports(&self) -> KindSet {
        let kinds = self.inner.supports();
        match self.defect {
            D::MapsUndeclared => kinds.without(Kind::Group),
            _ => kinds,
        }
    }

    fn validate(&self, input: &AnyInput) -> Result<(), ValidationError> {
        let is_unstamped = input.context.message_id.is_none();
        if self.defect == D::ForgetsStamp && is_unstamped {
            // As if the id and the time took no place.
            let mut input = input.clone();
            input.context.message_id = Some("m".to_owned());
            input.context.timestamp = Some(analytics_spec::Timestamp::UNIX_EPOCH);
            return self.inner.validate(&input);
        }
        self.inner.validate(input)
    }

    fn as_prepare(&self) -> Option<&dyn Prepare> {
        Some(self)
    }

    async fn deliver(&self, attempt: &Attempt<'_>) -> Result<Delivery, Error> {
        let mut outcome = self.inner.deliver(attempt).await;
        let again = match self.defect {
            D::RetriesInside => 2,
            D::NeverEnds => 100_000,
            _ => 0,
        };
        for _ in 0..again {
            if outcome.as_ref().is_err_and(Error::is_retryable) {
                outcome = self.inner.deliver(attempt).await;
            }
        }
        self.bent(outcome)
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        if self.defect == D::ForgetsOrder {
            let mut outcomes = Vec::new();
            for attempt in attempts {
                outcomes.push(self.deliver(attempt).await);
            }
            return outcomes;
        }
        let outcomes = self.inner.deliver_batch(attempts).await;
        let mut outcomes: Vec<_> = outcomes.into_iter().map(|o| self.bent(o)).collect();
        match self.defect {
            D::LosesOutcome => drop(outcomes.pop()),
            D::ReversesOutcomes => outcomes.reverse(),
            _ => {}
        }
        outcomes
    }

    fn batching(&self) -> Batching {
        let batching = self.inner.batching();
        match self.defect {
            D::NoLimits => Batching {
                max_items: 0,
                ..batching
            },
            D::TooManyAtOnce => Batching {
                max_in_flight: 1,
                ..batching
            },
            _ => batching,
        }
    }

    fn policies(&self) -> Policies {
        self.inner.policies()
    }

    fn allows_policies_override(&self) -> bool {
        self.inner.allows_policies_override()
    }

    fn configuration(&self) -> Map<String, Value> {
        self.inner.configuration()
    }

    fn preview(&self, input: &AnyInput) -> Result<Vec<Preview>, Error> {
        match self.defect {
            D::NoPreview => Ok(Vec::new()),
            D::KeyInPreview => self.inner.preview(input).map(|mut previews| {
                for preview in &mut previews {
                    preview.url = format!("{}?key={KEY}", preview.url);
                }
                previews
            }),
            _ => self.inner.preview(input),
        }
    }
}

#[async_trait]
impl Prepare for Wrapped {
    fn prepare(&self, input: &AnyInput) -> Result<Prepared, Error> {
        if self.defect == D::PreparesAnother {
            let mut other = input.clone();
            other.context.timestamp = Some(analytics_spec::Timestamp::UNIX_EPOCH);
            return self.inner.prepare(&other);
        }
        self.inner.prepare(input)
    }

    async fn deliver_prepared(
        &self,
        attempts: &[PreparedAttempt<'_>],
    ) -> Vec<Result<Delivery, Error>> {
        self.inner.deliver_prepared(attempts).await
    }
}
