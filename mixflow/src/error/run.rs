//! What is said of the folder of a run, with the flags of the commands that work there.

pub(super) const NO_RUN: &str =
    "holds no run to continue: leave out --resume to start one, or name its folder with --out";

pub(super) const RUN_EXISTS: &str = "holds a run already: add --resume to continue it, or choose another --out";

pub(super) const LOST_RECIPE: &str =
    "holds a training, but not its recipe.json: put that back, or choose another --out";

pub(super) const OTHER_DATA: &str = "resume it with the data as they were, or choose another --out";
