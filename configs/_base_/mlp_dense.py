# Makes type='CycleMLP' known to mmdet and mmseg, whichever of the two a config is for.
#
# The other files here inherit from the configs inside the installed mmdet and mmseg by their path. mmengine's short
# form 'mmseg::_base_/...' does not find mmseg where the package that provides it is not called mmsegmentation, and
# 'mmdet::' reads all of mmdet's metafiles each time, which takes seconds.
custom_imports = dict(imports=['mlp_dense'], allow_failed_imports=False)
