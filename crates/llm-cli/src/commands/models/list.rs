//! The models there are, how they are, and where they run.
use clap::{ArgMatches, Args};
use llm_core::ModelStatus;
use serde_json::{Value, json};

use crate::ask::parsed;
use crate::engine;
use crate::house::{House, Source};
use crate::output::Output;
use crate::stop::Run;

#[derive(Debug, Args)]
pub(super) struct List {
    /// A JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// A line of the list.
struct Row {
    status: ModelStatus,
    place: String,
}

pub(super) async fn run(matches: &ArgMatches) -> Run {
    let (list, source) = (parsed::<List>(matches), parsed::<Source>(matches));
    let house = House::read(&source)?;
    let llm = house.llm()?;
    llm.health().await; // what it learns stands in the list
    let rows: Vec<Row> = llm.models().into_iter().map(|status| row(&house, status)).collect();
    let text = if list.json { json!(rows.iter().map(object).collect::<Vec<_>>()).to_string() } else { table(&rows) };
    Ok(Output::new().line(&text).await?)
}

/// A model of this process is loaded when it is first asked; until then its file says whether it can be.
fn row(house: &House, mut status: ModelStatus) -> Row {
    if let Some(file) = house.deployments(&status.id).find_map(engine::file) {
        (status.status, status.reason) = match file {
            Ok(_) => ("installed", None),
            Err(error) => ("missing", Some(error.to_string())),
        };
    }
    Row { place: house.place_of(&status.id), status }
}

fn table(rows: &[Row]) -> String {
    let head = ["MODEL", "STATUS", "CONTEXT", "CAN", "WHERE"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 5] =
        std::array::from_fn(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0));
    let padded = |line: &[String; 5]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}

fn cells(Row { status, place }: &Row) -> [String; 5] {
    let context = status.max_model_len.map_or("?".to_owned(), |tokens| tokens.to_string());
    let place = status.reason.as_ref().map_or(place.clone(), |why| format!("{place}: {why}"));
    [status.id.clone(), status.status.to_owned(), context, status.operations.join(" "), place]
}

fn object(row: &Row) -> Value {
    let mut object = json!(row.status);
    object["where"] = row.place.clone().into();
    object
}
