//! `analytics erase`

use analytics_kit::engine::Store as _;
use clap::Args;

use crate::{
    Globals,
    exit::{Exit, Failure},
    output::Out,
    storage::{self, DataDir},
};

/// Forget a user: what is kept and not delivered, and dead letters
///
/// What was delivered is with the vendors: send them a `delete` event, after
/// whose delivery the same happens here by itself. One that is still pending,
/// or was refused, is kept: by it the vendors forget.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The user's id
    user_id: String,

    #[command(flatten)]
    data_dir: DataDir,
}

impl Erase {
    pub(crate) async fn run(&self, globals: &Globals) -> Result<Exit, Failure> {
        let storage = self.data_dir.find(&globals.config)?;
        let store = storage::open(&storage).await?;
        let erased = store.erase(&self.user_id).await;
        let erased = erased.map_err(|error| Failure::failed(error.message()))?;
        storage::close(&store).await?;
        let mut out = Out::new();
        out.line(format_args!(
            "erased: {}, {}",
            storage::counted(erased.events, "event"),
            storage::counted(erased.dead_letters, "dead letter")
        ))?;
        out.flush()?;
        Ok(Exit::Success)
    }
}
