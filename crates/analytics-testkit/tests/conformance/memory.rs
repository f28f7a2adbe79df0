//! What is not reached over HTTP: a list in memory.

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, Integration, KindSet, Policies, ValidationError,
    config::Instance,
};
use analytics_testkit::conformance::{Check, Report, Suite};
use async_trait::async_trait;

#[derive(Debug)]
struct Memory {
    instance: Instance,
    loses: bool,
}

#[async_trait]
impl Integration for Memory {
    fn vendor(&self) -> &'static str {
        "memory"
    }

    fn name(&self) -> &str {
        &self.instance.name
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    async fn deliver(&self, _: &Attempt<'_>) -> Result<Delivery, Error> {
        Ok(Delivery::default())
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Delivery, Error>> {
        let lost = usize::from(self.loses);
        attempts
            .iter()
            .skip(lost)
            .map(|_| Ok(Delivery::default()))
            .collect()
    }

    fn policies(&self) -> Policies {
        self.instance.policies.clone()
    }

    fn allows_policies_override(&self) -> bool {
        self.instance.allow_policies_override
    }
}

#[tokio::test]
async fn what_has_no_requests_is_checked_too() {
    let report = |loses| async move {
        let build = move |instance: Instance| Ok(Memory { instance, loses });
        let none: [&str; 0] = [];
        let report: Report = Suite::direct("memory", build)
            .secrets(none)
            .accepts_whatever()
            .report()
            .await;
        report
    };
    let clean = report(false).await;
    assert!(clean.is_clean(), "{clean}");
    assert!(report(true).await.has(Check::Batch));
}
