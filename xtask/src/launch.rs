//! Trainings as they are shown.

use mixflow::launch::{Finish, Launch, Ready};
use mixflow::recipe::NetworkSettings;
use mixflow::train::RunFolder;
use mixflow_hub::tracker::RunTrackers;

use crate::progress::Progress;
use crate::terminal::{Result, print};
use crate::tracking::{end, show_warnings};

/// Checks a run.
pub(crate) fn check<'a, N: NetworkSettings>(launch: Launch<'a, N>, folder: RunFolder) -> Result<Ready<'a, N>> {
    let mut progress = Progress::new();
    let ready = launch.check(folder, &mut |event| progress.launch(&event)).map_err(|error| match error {
        mixflow::Error::OtherClasses(_) => {
            format!("{error}, with --class-rows, such as first, null or CLASS=ROW,...").into()
        }
        error => Box::<dyn std::error::Error>::from(error),
    })?;
    progress.end();
    Ok(ready)
}

/// Does a run, tracks it, and shows what it comes to. False if interrupted.
pub(crate) fn run<N: NetworkSettings>(ready: Ready<'_, N>, mut tracking: RunTrackers) -> Result<bool> {
    let mut progress = Progress::new();
    let finish = ready.run(&mut |event| {
        progress.launch(&event);
        tracking.progress(&event);
        show_warnings(&mut tracking, &progress);
    });
    progress.end();
    let finished = finish.map_err(Into::into).and_then(|finish| shown(finish, &mut tracking));
    end(tracking, &finished);
    finished
}

fn shown(finish: Option<Finish>, tracking: &mut RunTrackers) -> Result<bool> {
    match finish {
        None => return Ok(false),
        Some(Finish::Trained(file)) => print(format_args!("weights (moving average): {}", file.display()))?,
        Some(Finish::Compared(report, page)) => {
            tracking.report(&report);
            print(format_args!("\n{}\n\n{}\n", report.table, report.summary_text()))?;
            print(format_args!("report: {}", page.display()))?;
        }
    }
    Ok(true)
}
