# Makes type='CycleMLP' known to mmdet and mmseg, whichever of the two a config is for, and names where curves go.
#
# The other files here inherit from the configs inside the installed mmdet and mmseg by their path. mmengine's short
# form 'mmseg::_base_/...' does not find mmseg where the package that provides it is not called mmsegmentation, and
# 'mmdet::' reads all of mmdet's metafiles each time, which takes seconds.
custom_imports = dict(imports=['mlp_dense'], allow_failed_imports=False)

# Where training writes its curves; `tensorboard --logdir work_dirs` shows them. For Weights & Biases instead:
# --cfg-options visualizer.vis_backends.1.type=WandbVisBackend
curves = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
