//! The checks, in the order in which they are made.

mod also;
mod answers;
mod batches;
mod contract;
mod crowd;
mod hostile;
mod limits;
mod mapping;
mod order;
mod people;
mod secrets;
mod setup;
mod verbatim;

use analytics_spec::{AnyInput, Kind, Value};

pub(crate) use self::secrets::traces;
use super::{trial::Run, unwritten, wire::Sent};

/// What a kind's fixture causes when the vendor accepts everything.
pub(crate) struct Base {
    pub(crate) kind: Kind,
    pub(crate) input: AnyInput,
    pub(crate) sent: Vec<Sent>,
    pub(crate) documents: Vec<Value>,
}

pub(crate) async fn all(run: &Run<'_>) {
    unwritten::check(run);
    setup::whole(run);
    contract::builds(run).await;
    contract::support(run);
    contract::unsupported(run).await;
    let bases = mapping::baselines(run).await;
    contract::policies(run, &bases).await;
    contract::validation(run, &bases);
    contract::invalid(run).await;
    hostile::all(run, &bases).await;
    limits::all(run, &bases).await;
    batches::outcomes(run, &bases).await;
    secrets::shown(run, &bases);
    if !run.suite.wired {
        return;
    }
    setup::words(run, &bases);
    let others = also::delivered(run, &bases).await;
    mapping::requests(run, &bases, &others);
    mapping::reviewed(run, &bases).await;
    also::reviewed(run, &bases, &others);
    mapping::reserved(run, &bases).await;
    mapping::identity(run, &bases).await;
    mapping::screens(run, &bases).await;
    people::all(run, &bases).await;
    verbatim::all(run, &bases).await;
    contract::prepared(run, &bases).await;
    mapping::replayed(run, &bases).await;
    mapping::retried(run, &bases).await;
    for base in &bases {
        answers::permanent(run, base).await;
        answers::rejected(run, base).await;
        answers::gone(run, base).await;
        answers::refusal(run, base).await;
        answers::foreign(run, base).await;
        answers::waits(run, base).await;
        answers::passing(run, base).await;
        answers::network(run, base).await;
        answers::ends(run, base).await;
        secrets::echoed(run, base, &bases).await;
    }
    contract::isolation(run, &bases).await;
    contract::in_flight(run, &bases).await;
    batches::repeats(run, &bases).await;
    batches::splits(run, &bases).await;
    batches::bad_event(run, &bases).await;
    batches::partial(run, &bases).await;
    order::kept(run, &bases).await;
    order::in_part(run, &bases).await;
    // What is not delivered yet may be what they are for.
    if bases.len() == run.suite.kinds().iter().count() {
        setup::takes_effect(run, &bases).await;
    }
}
