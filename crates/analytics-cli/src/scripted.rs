//! The scripted vendors, with the configuration that leads to them.

use std::{io, net::SocketAddr};

use analytics_kit::Vendor;
use analytics_testkit::{
    Keep, ServerOptions,
    vendors::{STAGES, Stage},
};

/// Starts every vendor that is compiled in: at free ports, or at this one and
/// those that follow.
pub(crate) async fn start(listen: SocketAddr, keep: Keep) -> io::Result<Vec<Stage>> {
    let mut stages = Vec::new();
    let mut address = listen;
    for staging in STAGES {
        let name = staging.name;
        if !Vendor::find(name).is_some_and(Vendor::is_compiled_in) {
            continue;
        }
        let options = ServerOptions::default().address(address).keep(keep);
        stages.push(staging.start(options).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{name} at {address}: {error}"))
        })?);
        if address.port() > 0 {
            address.set_port(address.port().checked_add(1).ok_or_else(|| {
                io::Error::new(io::ErrorKind::AddrNotAvailable, "no port is left")
            })?);
        }
    }
    Ok(stages)
}

/// The configuration that leads to all of them.
pub(crate) fn configuration(stages: &[Stage]) -> String {
    let tables: Vec<_> = stages.iter().map(|s| s.configuration.as_str()).collect();
    tables.join("\n")
}
