# The weights along height and width are resampled from the grid of 224 pixels to that of 384. Without img_size and
# resize_grid the model keeps its grid and takes larger images by token_grid.
_base_ = ['./_base_/finetune_imagenet_384.py']
model = dict(
    backbone=dict(
        type='VisionPermutator',
        arch='m7',
        img_size=384,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_m7.pth', resize_grid=True),
    ),
)
