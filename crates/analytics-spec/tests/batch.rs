//! What follows an attempt at several events of a batch.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use analytics_spec::{
    AnyInput, Attempt, Delivery, Error, ErrorKind, Handler, Input, Integration, KindSet, Policies,
    Progress, Retries, Track, ValidationError, Worker,
    batch::{Deliveries, Next, attempt, failed_together, share},
    handler::{Activity, Config, Workflow},
    integration::{Batching, unattempted},
    policies::{ActivityPolicy, RetryPolicy},
};
use async_trait::async_trait;

type Outcomes = Vec<Result<Delivery, Error>>;
type Answer = Box<dyn Fn(&[Attempt<'_>]) -> Outcomes + Send + Sync>;

/// Takes 500 events a call, and does with them what a test says.
struct Vendor {
    answer: Answer,
    calls: Arc<Mutex<Vec<usize>>>,
    maximum_attempts: u32,
}

impl std::fmt::Debug for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vendor")
    }
}

#[async_trait]
impl Integration for Vendor {
    fn vendor(&self) -> &'static str {
        "vendor"
    }

    fn name(&self) -> &str {
        "vendor"
    }

    fn supports(&self) -> KindSet {
        KindSet::ALL
    }

    fn policies(&self) -> Policies {
        let retry = RetryPolicy::new().maximum_attempts(self.maximum_attempts);
        Policies::new().request(ActivityPolicy::new().retry_policy(retry))
    }

    fn validate(&self, _: &AnyInput) -> Result<(), ValidationError> {
        Ok(())
    }

    fn batching(&self) -> Batching {
        Batching {
            max_items: 500,
            ..Batching::single(4)
        }
    }

    async fn deliver(&self, _: &Attempt<'_>) -> Result<Delivery, Error> {
        panic!("only batches are delivered")
    }

    async fn deliver_batch(&self, attempts: &[Attempt<'_>]) -> Outcomes {
        self.calls.lock().unwrap().push(attempts.len());
        (self.answer)(attempts)
    }
}

struct Nothing;

impl Worker for Nothing {
    fn register_workflow(&mut self, _: Workflow) -> Result<(), Error> {
        Ok(())
    }

    fn register_activity(&mut self, _: Activity) -> Result<(), Error> {
        Ok(())
    }
}

async fn handler(
    maximum_attempts: u32,
    answer: impl Fn(&[Attempt<'_>]) -> Outcomes + Send + Sync + 'static,
) -> (Handler, Arc<Mutex<Vec<usize>>>) {
    let vendor = Vendor {
        answer: Box::new(answer),
        calls: Arc::default(),
        maximum_attempts,
    };
    let calls = vendor.calls.clone();
    let handler = Handler::new(Config::new(Arc::new(vendor) as Arc<dyn Integration>)).unwrap();
    handler.register(&mut Nothing).unwrap();
    handler.init().await.unwrap();
    (handler, calls)
}

fn inputs(count: usize) -> Vec<AnyInput> {
    let input = |n: usize| {
        let mut input = Input::new(Track::new("e").user_id(n.to_string())).into_any();
        input.context.message_id = Some(n.to_string());
        input
    };
    (0..count).map(input).collect()
}

/// Delivers a batch, each call with its time over when it begins.
async fn deliver(handler: &Handler, deliveries: &mut Deliveries) {
    let limits = handler.integration().batching();
    for _ in 0..1000 {
        // Whatever it waits for has come.
        let round = deliveries.round(Duration::MAX, &limits, 0);
        let mut nexts = Vec::new();
        for positions in round.calls {
            let events = deliveries.call(&positions);
            let next = attempt(handler, &events, Some(Instant::now()), 0.0).await;
            nexts.push((positions, next));
        }
        let _ = deliveries.apply(nexts, Duration::ZERO);
        if deliveries.is_done() {
            return;
        }
    }
    panic!("it does not end")
}

fn refuse(attempts: &[Attempt<'_>], at_most: usize) -> Outcomes {
    let outcome = |_| {
        if attempts.len() > at_most {
            Err(unattempted())
        } else {
            Ok(Delivery::default())
        }
    };
    (0..attempts.len()).map(outcome).collect()
}

/// Each call is over before the vendor has taken anything of it.
#[tokio::test]
async fn after_a_call_that_came_to_nothing_the_next_is_smaller() {
    let (handler, calls) = handler(2, |attempts| refuse(attempts, 3)).await;
    let mut deliveries = Deliveries::new(inputs(40).into_iter().map(Ok));
    deliver(&handler, &mut deliveries).await;
    let output = deliveries.into_output();
    assert_eq!(output.failures().count(), 0, "{output:?}");
    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls, [[40].as_slice(), &[2; 20]].concat());
}

/// It is no wait for another event, and not to be tried for ever.
#[tokio::test]
async fn what_comes_to_nothing_alone_counts() {
    let (handler, calls) = handler(3, |attempts| refuse(attempts, 0)).await;
    let mut deliveries = Deliveries::new(inputs(2).into_iter().map(Ok));
    deliver(&handler, &mut deliveries).await;
    for outcome in deliveries.into_output().outcomes {
        let error = outcome.to_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.integration(), Some("vendor"));
    }
    assert_eq!(*calls.lock().unwrap(), [2, 1, 1, 1, 1, 1, 1]);
}

/// Steps of an event, one a call.
#[tokio::test]
async fn what_has_come_further_is_no_failure() {
    let (handler, calls) = handler(2, |attempts| {
        let outcome = |attempt: &Attempt<'_>| match attempt.progress.0 {
            done @ 0..5 => Err(unattempted().with_progress(Progress(done + 1))),
            _ => Ok(Delivery::default()),
        };
        attempts.iter().map(outcome).collect()
    })
    .await;
    let mut deliveries = Deliveries::new(inputs(3).into_iter().map(Ok));
    deliver(&handler, &mut deliveries).await;
    assert_eq!(deliveries.into_output().failures().count(), 0);
    assert_eq!(*calls.lock().unwrap(), [3; 6]);
}

#[tokio::test]
async fn after_a_call_of_which_nothing_is_known_the_next_is_half_as_large() {
    let (handler, _) = handler(10, |attempts| refuse(attempts, 0)).await;
    let error = Error::new(ErrorKind::Internal, "panicked").with_retryable(true);
    let mut events: Vec<_> = inputs(40)
        .into_iter()
        .map(|i| (i, Retries::new()))
        .collect();
    let mut sizes = Vec::new();
    loop {
        let nexts = failed_together(&handler, &events, &error, 0.0);
        assert_eq!(nexts.len(), events.len());
        let Next::Again {
            retries, at_most, ..
        } = nexts[0].clone()
        else {
            break;
        };
        assert_eq!(retries.counted as usize, sizes.len() + 1);
        let at_most = at_most.unwrap();
        sizes.push(at_most);
        events.truncate(at_most);
        events.iter_mut().for_each(|event| event.1 = retries);
    }
    assert_eq!(sizes, [20, 10, 5, 2, 1, 1, 1, 1, 1]);

    // One attempt is one attempt: the vendor may have what it had. Nor does
    // another follow where none may.
    let events: Vec<_> = inputs(2).into_iter().map(|i| (i, Retries::new())).collect();
    let is_settled = |next: &Next| matches!(next, Next::Settled(_));
    let (one_attempt, _) = self::handler(1, |attempts| refuse(attempts, 0)).await;
    let nexts = failed_together(&one_attempt, &events, &error, 0.0);
    assert!(nexts.iter().all(is_settled), "{nexts:?}");
    let nexts = failed_together(&handler, &events, &error.with_retryable(false), 0.0);
    assert!(nexts.iter().all(is_settled), "{nexts:?}");
}

/// What is known of a call that panics is lost with it, and nothing else.
#[tokio::test]
async fn an_event_that_panics_is_alone_with_it() {
    // Halved until it is alone, and then tried as often as the policy says.
    let calls = panics(8, 0).await;
    assert_eq!(calls, [40, 20, 20, 10, 10, 5, 5, 2, 2, 1, 1, 1, 1, 1]);
    // It panics in what would be the last attempt of all of them.
    let calls = panics(8, 7).await;
    let whole = [40; 7];
    let halves = [40, 20, 20, 10, 10, 5, 5, 2, 2, 1, 1, 1];
    assert_eq!(calls, [whole.as_slice(), &halves].concat());
    let calls = panics(2, 1).await;
    assert_eq!(calls, [[40].as_slice(), &halves].concat());
}

/// The calls of 40 events one of which panics, and fails, after some calls to
/// which the vendor answers 503.
async fn panics(maximum_attempts: u32, unavailable: usize) -> Vec<usize> {
    let before = AtomicUsize::new(unavailable);
    let (handler, calls) = handler(maximum_attempts, move |attempts| {
        let less = |left: usize| left.checked_sub(1);
        if before.fetch_update(SeqCst, SeqCst, less).is_ok() {
            let unavailable = |_| Err(Error::new(ErrorKind::Unavailable, "503"));
            return attempts.iter().map(unavailable).collect();
        }
        let mut has_panicked = attempts.iter().map(|attempt| attempt.input.message_id());
        assert!(!has_panicked.any(|id| id == "21"), "as told");
        refuse(attempts, usize::MAX)
    })
    .await;
    let mut deliveries = Deliveries::new(inputs(40).into_iter().map(Ok));
    deliver(&handler, &mut deliveries).await;
    let output = deliveries.into_output();
    let failures: Vec<_> = output.failures().collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].0, 21);
    assert_eq!(failures[0].1.message, "the integration panicked");
    calls.lock().unwrap().clone()
}

#[test]
fn the_last_attempt_is_alone() {
    let counted = |counted| {
        let mut retries = Retries::new();
        retries.counted = counted;
        retries
    };
    let sizes = |maximum| {
        (0..6)
            .map(|n| share(500, maximum, &counted(n)))
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(3), [500, 500, 1, 1, 1, 1]);
    assert_eq!(sizes(0), [500, 500, 250, 125, 62, 31]);
    assert_eq!(share(500, 1, &counted(0)), 500);
    assert_eq!(share(500, 0, &counted(u32::MAX)), 1);
}
