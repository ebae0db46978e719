//! What networks made while they were trained.

use std::collections::BTreeSet;
use std::path::Path;

use image::imageops::FilterType;
use serde::{Deserialize, Serialize};

use super::html::escape;
use super::{Arm, Picture};
use crate::Error;
use crate::numbers::thousands;
use crate::train::pictures;

/// Pictures of one training, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strip {
    /// The network that was trained.
    pub arm: Arm,
    /// What it made meanwhile.
    pub frames: Vec<Frame>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Steps that were taken before.
    pub steps: u64,
    /// Images tiled into one picture.
    pub picture: Picture,
}

/// Pictures of a training in a page, at most.
const FRAMES: usize = 8;

/// Width of a picture in a page, in pixels, at most.
const WIDTH: u32 = 480;

impl Strip {
    /// Of the training in a folder, from its `validation/`: eight pictures at most, the last among them, that are made smaller
    /// where they are large. What is no picture is left out; none where there are none.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn read(arm: Arm, folder: &Path) -> Result<Option<Self>, Error> {
        let all = pictures(folder)?;
        // Every so many, counted from the last.
        let stride = all.len().div_ceil(FRAMES).max(1);
        let chosen = all.iter().enumerate().filter(|(place, _)| (all.len() - 1 - place) % stride == 0);
        let frames = chosen.filter_map(|(_, (steps, file))| {
            let image = image::open(file).ok()?;
            let image = if image.width() > WIDTH { image.resize(WIDTH, u32::MAX, FilterType::Triangle) } else { image };
            Some(Frame { steps: *steps, picture: Picture::from(&image.into_rgb8()) })
        });
        let frames: Vec<Frame> = frames.collect();
        Ok((!frames.is_empty()).then_some(Self { arm, frames }))
    }
}

/// Strips as a table: a row for each, a column for each number of steps.
pub(super) fn table(strips: &[&Strip]) -> String {
    let steps: BTreeSet<u64> = strips.iter().flat_map(|strip| strip.frames.iter().map(|frame| frame.steps)).collect();
    let head: String = steps.iter().map(|steps| format!("<th scope=\"col\">step {}</th>", thousands(*steps))).collect();
    let rows = strips.iter().map(|strip| {
        let name = escape(strip.arm.name());
        let cells = steps.iter().map(|steps| match strip.frames.iter().find(|frame| frame.steps == *steps) {
            Some(Frame { picture: Picture { width, height, png }, .. }) => format!(
                "<td><img src=\"data:image/png;base64,{}\" width=\"{width}\" height=\"{height}\" \
                 alt=\"{name} after {steps} steps\"/></td>",
                escape(png)
            ),
            None => "<td></td>".into(),
        });
        let cells: String = cells.collect();
        format!("<tr><th scope=\"row\"><span class=\"swatch {}\"></span>{name}</th>{cells}</tr>", strip.arm.class())
    });
    format!(
        "<div class=\"scroll\"><table class=\"strip\"><thead><tr><th></th>{head}</tr></thead><tbody>{}</tbody></table></div>",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;

    use super::*;

    #[test]
    fn a_page_has_some_pictures_of_a_long_training_and_its_last() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Strip::read(Arm::MixFlow, folder.path()).unwrap(), None);
        let place = folder.path().join("validation");
        fs::create_dir(&place).unwrap();
        for steps in 1..=17 {
            RgbImage::new(960, 30).save(place.join(format!("step-{:08}.png", 10 * steps))).unwrap();
        }
        fs::write(place.join("step-00000040.png"), "torn").unwrap();
        fs::write(place.join(".step-00000180.png.1.tmp"), "on its way").unwrap();
        let strip = Strip::read(Arm::MixFlow, folder.path()).unwrap().unwrap();
        // Every third from the last, 20, 50, ..., 170.
        let steps: Vec<u64> = strip.frames.iter().map(|frame| frame.steps).collect();
        assert_eq!(steps, [20, 50, 80, 110, 140, 170]);
        assert!(strip.frames.iter().all(|frame| (frame.picture.width, frame.picture.height) == (480, 15)));
        let table = table(&[&strip, &Strip { arm: Arm::Standard, frames: strip.frames[1..].to_vec() }]);
        assert_eq!((table.matches("<img").count(), table.matches("<td></td>").count()), (11, 1));
        assert!(table.contains("alt=\"MixFlow after 170 steps\"") && table.contains(">step 170<"), "{table}");
    }
}
