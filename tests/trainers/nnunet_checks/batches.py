"""What is expected of the loaders and transforms of batches: one function per row of docs/nnunet.md."""

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from trainers.nnunet_checks.lab import expected_of, refuses


class Loader:
    """Batches that say in which worker they were made, and with which random numbers."""

    worker = None

    def set_thread_id(self, number):
        self.worker = number

    def __iter__(self):
        return self

    def __next__(self):
        return {"worker": self.worker, "drawn": int(np.random.randint(2**31))}


def ends_with_an_error(augmenter, kill):
    try:
        kill()
        return refuses(RuntimeError, lambda: [next(augmenter) for _ in range(10_000)])
    finally:
        augmenter._finish(timeout=1)


@expected_of("MultiThreadedAugmenter")
def _(lab):
    def first(count):
        augmenter = MultiThreadedAugmenter(Loader(), None, 2, 1, seeds=[5, 6], wait_time=0.002)
        batches = [next(augmenter) for _ in range(count)]
        assert len(augmenter._processes) == 2
        return augmenter, batches

    augmenter, batches = first(4)
    assert [batch["worker"] for batch in batches] == [0, 1, 0, 1]
    assert ends_with_an_error(augmenter, augmenter.abort_event.set)
    again, same = first(4)
    again._finish(timeout=1)
    assert same == batches


@expected_of("NonDetMultiThreadedAugmenter")
def _(lab):
    augmenter = NonDetMultiThreadedAugmenter(Loader(), None, 1, 1, wait_time=0.002)
    assert next(augmenter)["worker"] == 0
    assert ends_with_an_error(augmenter, augmenter._processes[0].kill)


@expected_of("SingleThreadedAugmenter")
def _(lab):
    loader = Loader()
    augmenter = SingleThreadedAugmenter(loader, None)
    loader.worker = "this process"
    assert next(augmenter)["worker"] == "this process"


@expected_of("ImageOnlyTransform")
def _(lab):
    class AddOne(ImageOnlyTransform):
        def get_parameters(self, **sample):
            return {"amount": sample["image"].max() * 0 + 1}

        def _apply_to_image(self, img, amount):
            return img + amount

    sample = AddOne()(image=torch.zeros(1, 2, 3, 3), segmentation=torch.zeros(1, 2, 3, 3))
    assert sample["image"].eq(1).all()
    assert not sample["segmentation"].any()


@expected_of("blur_dimension")
def _(lab):
    image = torch.zeros(1, 3, 9, 9)
    image[0, 1, 4, 4] = 1
    before = image.clone()
    blurred = blur_dimension(image, 1.0, 2)
    assert torch.equal(image, before)
    touched = blurred.nonzero()
    assert set(touched[:, 1].tolist()) == {1}
    assert set(touched[:, 2].tolist()) == {4}
    assert len(set(touched[:, 3].tolist())) > 1


@expected_of("SimulateLowResolutionTransform")
def _(lab):
    transform = SimulateLowResolutionTransform((0.5, 0.5), False, True, (0,), p_per_channel=1)
    image = torch.arange(4.0)[None, :, None, None].expand(1, 4, 8, 8).clone()  # differs along the slices only
    assert torch.allclose(transform(image=image.clone())["image"], image)


@expected_of("Convert3DTo2DTransform")
def _(lab):
    image, label = torch.rand(2, 3, 4, 5), torch.rand(1, 3, 4, 5)
    folded = Convert3DTo2DTransform()(image=image, segmentation=label)
    assert torch.equal(folded["image"], image.flatten(0, 1))
    assert folded["segmentation"].shape == (3, 4, 5)


@expected_of("Convert2DTo3DTransform")
def _(lab):
    image, label = torch.rand(2, 3, 4, 5), torch.rand(1, 3, 4, 5)
    folded = Convert3DTo2DTransform()(image=image.clone(), segmentation=label.clone())
    unfolded = Convert2DTo3DTransform()(**folded)
    assert torch.equal(unfolded["image"], image)
    assert torch.equal(unfolded["segmentation"], label)
