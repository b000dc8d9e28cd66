"""ViT-B of SimMIM: BEiT's, 86 M parameters, one position bias for all layers."""

channels = [768]
backbone = dict(
    type="mmpretrain.BEiTViT",
    arch="base",
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=True,
    final_norm=True,
    out_type="featmap",
)
