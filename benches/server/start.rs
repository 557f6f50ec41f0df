//! From the start of the program to the first answered request, without a model.

use std::time::Instant;

use serde_json::json;

use crate::client::Client;
use crate::process::{Server, Start};
use crate::speed::median;

const ROUNDS: usize = 7;

/// Prints the medians; each round has a fresh root that is laid out.
pub(crate) async fn run() -> anyhow::Result<()> {
    let (mut listening, mut answered) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let server = Server::start(&Start::default())?;
        let mut client = Client::connect(server.port).await?;
        client
            .request("list_active_personalities", &json!({}), "active_personalities_list")
            .await?;
        answered.push(began.elapsed().as_secs_f64() * 1e3);
        listening.push(server.ready_after.as_secs_f64() * 1e3);
    }
    println!("\nstart: {ROUNDS} times with a fresh root, medians");
    println!(
        "listening after {:.0} ms, first answer after {:.0} ms",
        median(&mut listening),
        median(&mut answered)
    );
    Ok(())
}
