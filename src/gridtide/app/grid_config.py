"""Transformers and grid protection of a site file: from settings to what the controller is told, and what must fit together."""

import math

from gridtide.app.fields import Fields
from gridtide.app.settings import Grid, SiteFile
from gridtide.control.grid_profiles import profile_of
from gridtide.control.grid_protection import GridSettings
from gridtide.control.protection import ProtectionSettings
from gridtide.control.transformer import Transformer
from gridtide.run.protection import measured
from gridtide.wire.modbus.registers import RegisterMap


def protection(config: SiteFile, device: RegisterMap | None) -> ProtectionSettings:
    """Transformers with a rating in kVA; voltage and frequency where the meter's map (`device`) tells them."""
    grid = config.grid
    groups = tuple(_transformer(grid, group.transformer_kva) for group in config.groups)
    return ProtectionSettings(
        grid=_watched(grid, device),
        site=_transformer(grid, grid.transformer_kva),
        groups=groups if any(groups) else (),
    )


def _transformer(grid: Grid, rating_kva: float) -> Transformer | None:
    if rating_kva <= 0.0:
        return None
    return Transformer(
        rating_kva=rating_kva, power_factor=grid.power_factor, ambient_c=grid.transformer_ambient_c,
        oil_tau_s=grid.transformer_tau_s,
    )  # fmt: skip


def _watched(grid: Grid, device: RegisterMap | None) -> GridSettings | None:
    has_frequency, has_voltage = measured(device) if device is not None else (False, False)
    if grid.profile == "off" or not (has_frequency or has_voltage):
        return None
    return GridSettings(
        profile=profile_of(grid.profile, float(grid.nominal_hz)), nominal_v=grid.phase_v, has_frequency=has_frequency,
        has_voltage=has_voltage,
    )  # fmt: skip


def check_grid(config: SiteFile, device: RegisterMap | None, fields: Fields) -> None:
    """Note every contradiction between profile, meter and transformers."""
    grid = config.grid
    _check_profile(grid, device, fields)
    most_kw = grid.transformer_kva * grid.power_factor
    if grid.transformer_kva > 0.0 and grid.export_kw > most_kw:
        text = f"is more than the transformer carries ({most_kw:g} kW): give at most that"
        fields.tell(("grid", "export_kw"), grid.export_kw, text)
    if not math.isnan(most_kw) and 0.0 < most_kw <= grid.static_building_kw:
        text = f"leaves nothing of the transformer's {most_kw:g} kW for charging: give less, or the right rating in kVA"
        fields.tell(("grid", "static_building_kw"), grid.static_building_kw, text)


def _check_profile(grid: Grid, device: RegisterMap | None, fields: Fields) -> None:
    if grid.profile == "off":
        return
    try:
        profile = profile_of(grid.profile, float(grid.nominal_hz))
    except ValueError as error:
        fields.tell(("grid", "profile"), grid.profile, str(error))
        return
    if profile.strict and not grid.allow_nonconforming:
        text = "leaves the grid where grid codes ask to stay: set allow_nonconforming = true if that is meant"
        fields.tell(("grid", "profile"), grid.profile, text)
    if grid.profile != "default" and device is not None and not all(measured(device)):
        text = "needs a meter that tells frequency_hz and a voltage: add [[meter.register]] rows, or leave it out"
        fields.tell(("grid", "profile"), grid.profile, text)


def grid_notes(config: SiteFile, device: RegisterMap | None) -> list[str]:
    """What is allowed but should be known, in sentences."""
    said = []
    if device is not None and _watched(config.grid, device) is None:
        said.append("Voltage and frequency are not watched: grid protection is left to stations and to what is wired.")
    if config.grid.profile == "strict":
        said.append(
            "grid.profile strict leaves the grid at half a hertz: it conforms to no grid code, and no frequency service fits it."
        )
    return said
