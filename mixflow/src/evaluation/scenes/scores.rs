//! How often a network draws what it is told.

use crate::Error;
use crate::data::scenes::Category;
use crate::data::{DataConfig, Scenes};
use crate::evaluation::{Best, Measured, scenes::check};
use crate::sampling::Images;

/// The shares of images that show what their captions say, where the data of a recipe are [`Scenes`]: of each category, and the
/// mean of these.
#[derive(Debug)]
pub(crate) struct SceneScores {
    scenes: Scenes,
    /// Labels that training shows none of, the categories in turn.
    unseen: Vec<usize>,
}

impl SceneScores {
    /// Scores with `count` captions that training does not show; none where the data are others.
    pub(crate) fn of(data: &DataConfig, count: usize) -> Result<Option<Self>, Error> {
        let DataConfig::Scenes { size, seed } = data else { return Ok(None) };
        let scenes = Scenes::new(*size, *seed)?;
        let captions = || scenes.captions().iter().enumerate().filter(|(_, caption)| caption.is_unseen());
        let of = |category| captions().filter(|(_, it)| it.category() == category).map(|(label, _)| label).collect();
        let categories: Vec<Vec<usize>> =
            Category::ALL.map(of).into_iter().filter(|of: &Vec<usize>| !of.is_empty()).collect();
        let turns = (0..count).map(|place| {
            let category = &categories[place % categories.len()];
            category[place / categories.len() % category.len()]
        });
        Ok(Some(Self { unseen: turns.collect(), scenes }))
    }

    /// What images of these labels are scored by; their captions are of the training.
    pub(crate) fn seen(&self, labels: &[usize]) -> Scored<'_> {
        Scored::new(self, labels, "Images that show what their caption says: captions of the training.", "")
    }

    /// The same of [`Scored::labels`] that training shows none of.
    pub(crate) fn unseen(&self) -> Scored<'_> {
        Scored::new(
            self,
            &self.unseen,
            "Images that show what their caption says: captions that training has no example of.",
            "unseen ",
        )
    }
}

/// Images of some labels, scored.
#[derive(Debug)]
pub(crate) struct Scored<'a> {
    scenes: &'a Scenes,
    pub(crate) labels: Vec<usize>,
    group: &'static str,
    prefix: &'static str,
    /// Of true pictures of the same labels.
    real: Vec<f64>,
}

impl<'a> Scored<'a> {
    fn new(scores: &'a SceneScores, labels: &[usize], group: &'static str, prefix: &'static str) -> Self {
        let mut scored = Self { scenes: &scores.scenes, labels: labels.to_vec(), group, prefix, real: vec![] };
        let size = [crate::data::Dataset::shape(scored.scenes)[1]; 2];
        scored.real = scored.shares(size, |place| scored.scenes.picture(labels[place], place as u64));
        scored
    }

    /// Scores of an image of each label.
    pub(crate) fn measure(&self, images: &Images) -> Vec<Measured> {
        let [_, channels, height, width] = images.shape;
        let image = channels * height * width;
        let shares = self.shares([height, width], |place| images.pixels[place * image..][..image].to_vec());
        let names = Category::ALL.map(Category::name).into_iter().chain(["overall"]);
        names
            .zip(shares.into_iter().zip(&self.real))
            .filter(|(_, (share, _))| !share.is_nan())
            .map(|(name, (generated, real))| Measured {
                name: format!("{}{name}", self.prefix),
                best: Best::High,
                generated,
                floor: *real,
                group: Some(self.group.into()),
            })
            .collect()
    }

    /// The share of right ones in each category, NaN in those without labels; last the mean of the others.
    fn shares(&self, size: [usize; 2], pixels: impl Fn(usize) -> Vec<f32>) -> Vec<f64> {
        let mut right = [(0.0, 0.0); Category::ALL.len()];
        for (place, label) in self.labels.iter().enumerate() {
            let caption = &self.scenes.captions()[*label];
            let (shown, all) = &mut right[caption.category() as usize];
            *shown += f64::from(u8::from(check(caption, &pixels(place), size).is_ok()));
            *all += 1.0;
        }
        let shares = right.map(|(shown, all): (f64, f64)| shown / all);
        let some: Vec<f64> = shares.into_iter().filter(|share| !share.is_nan()).collect();
        let mean = some.iter().sum::<f64>() / some.len() as f64;
        shares.into_iter().chain([mean]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What images of these labels score, by name.
    fn measured(scored: &Scored<'_>, pictures: &[Vec<f32>]) -> Vec<(String, f64, f64)> {
        let images = Images { pixels: pictures.concat(), shape: [pictures.len(), 3, 24, 24], ..Images::default() };
        scored.measure(&images).into_iter().map(|found| (found.name, found.generated, found.floor)).collect()
    }

    #[test]
    fn scores_are_shares_of_right_images_by_category() {
        let data = DataConfig::Scenes { size: 24, seed: 0 };
        let scores = SceneScores::of(&data, 30).unwrap().unwrap();
        let label = |text: &str| scores.scenes.captions().iter().position(|it| it.to_string() == text).unwrap();
        let labels = ["a circle", "a cross", "two squares", "a red circle", "a red square"].map(label);
        let seen = scores.seen(&labels);
        let mut pictures = labels.map(|label| scores.scenes.picture(label, 99)).to_vec();
        let all = measured(&seen, &pictures);
        let names: Vec<&str> = all.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["single object", "counting", "colours", "overall"], "none of what was not asked");
        assert!(all.iter().all(|(_, generated, floor)| (*generated, *floor) == (1.0, 1.0)), "{all:?}");
        // A square in the place of the circle, and a green square in that of a red one.
        pictures[0] = scores.scenes.picture(label("a square"), 0);
        pictures[4] = scores.scenes.picture(label("a green square"), 0);
        let found: Vec<f64> = measured(&seen, &pictures).iter().map(|(_, generated, _)| *generated).collect();
        assert_eq!(found, [0.5, 1.0, 0.5, 2.0 / 3.0]);

        let unseen = scores.unseen();
        assert_eq!(unseen.labels.len(), 30);
        assert!(unseen.labels.iter().all(|label| scores.scenes.captions()[*label].is_unseen()));
        let pictures: Vec<_> = unseen.labels.iter().map(|label| scores.scenes.picture(*label, 7)).collect();
        let found = measured(&unseen, &pictures);
        assert_eq!((found.len(), &*found[1].0, found[1].1), (6, "unseen counting", 1.0));
        assert!(SceneScores::of(&DataConfig::Shapes { size: 24, seed: 0 }, 30).unwrap().is_none());
    }
}
