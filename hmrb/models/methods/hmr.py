"""HMR (Kanazawa et al., CVPR 2018), the study's method: the crop alone. Its files are read by hmrb.models.importing."""

from hmrb.models.methods.layout import Method

METHOD = Method("hmr", "HMR", "hmr")
