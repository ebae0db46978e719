//! Images that a training draws change nothing of it, and are those of its steps.

use std::fs;

use mixflow::recipe::Recipe;

use crate::resume::{Trace, finish, interrupt, recipe, temporary, undisturbed};

#[test]
fn a_run_that_draws_is_the_run_that_does_not() {
    let expected = undisturbed();
    let silent = Recipe { validation: None, ..recipe(5) };
    let folder = temporary();
    finish(&silent, folder.path());
    assert_eq!(Trace::of(folder.path()), Trace { pictures: vec![], ..expected });
    // Pictures are no part of what a step does, and can be other ones when a run goes on.
    let folder = temporary();
    interrupt(&silent, folder.path(), 6);
    finish(&recipe(5), folder.path());
    let found = Trace::of(folder.path());
    assert_eq!(found.pictures, undisturbed().pictures[2..]);
    assert_eq!(found.state, undisturbed().state);
}

#[test]
fn pictures_that_cannot_be_drawn_or_kept_stop_no_training() {
    let expected = undisturbed();
    let folder = temporary();
    fs::write(folder.path().join("validation"), "in the way").expect("there is room");
    let warnings = finish(&recipe(5), folder.path());
    assert!(warnings.len() == 4 && warnings[0].contains("no images of step 3: cannot"), "{warnings:?}");
    fs::remove_file(folder.path().join("validation")).expect("it is there");
    assert_eq!(Trace::of(folder.path()), Trace { pictures: vec![], ..expected });
}

#[test]
fn pictures_of_steps_that_are_taken_again_are_drawn_again() {
    let folder = temporary();
    finish(&recipe(5), folder.path());
    // As a process that was killed after its pictures, before a checkpoint.
    fs::remove_dir_all(folder.path().join("checkpoints/step-00000012")).expect("it is there");
    fs::write(folder.path().join("validation/step-00000012.png"), "of another network").expect("there is room");
    fs::write(folder.path().join("validation/step-00000011.png"), "of another recipe").expect("there is room");
    finish(&recipe(5), folder.path());
    assert_eq!(Trace::of(folder.path()), undisturbed());
}
