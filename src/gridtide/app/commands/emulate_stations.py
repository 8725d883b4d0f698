"""`gridtide emulate stations`: a fleet of stations with vehicles against any CSMS."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

PREFIX_CHARS = 40
USUAL_COUNT = 10
LEAST_ACCEPTED = 1.0
"""Share of the stations that must be accepted in the end for exit code 0."""


def stations(
    count: Annotated[
        int | None,
        typer.Option(
            help="How many stations.", min=1, max=100_000, show_default=f"all that the files name, else {USUAL_COUNT}"
        ),
    ] = None,
    csms: Annotated[str, typer.Option(help="Address of the system under test.")] = "ws://127.0.0.1:9000/ocpp",
    version: Annotated[str, typer.Option(help="OCPP version: 2.1 or 2.0.1.")] = "2.1",
    profile: Annotated[
        int, typer.Option(help="Security profile 1, 2 or 3; 0 shows no password (foreign systems).", min=0, max=3)
    ] = 1,
    id_prefix: Annotated[str, typer.Option(help="Identities are this and a number of five digits.")] = "EMU-",
    passwords: Annotated[
        Path | None, typer.Option(help="File with one `identity password` a line (mode 0600); names the stations too.")
    ] = None,
    password_env: Annotated[
        str | None, typer.Option(help="Environment variable with the one password of all stations.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Who signed the CSMS's certificate (PEM), for profiles 2 and 3.")
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            help="Folder with IDENTITY.crt and IDENTITY.key (mode 0600), for profile 3; names the stations too."
        ),
    ] = None,
    ramp: Annotated[float, typer.Option(help="New connections a second.", min=0.1, max=10_000.0)] = 50.0,
    processes: Annotated[int, typer.Option(help="Processes to spread them over.", min=1, max=64)] = 1,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME=SHARE, as silent=0.01; may stand several times.")
    ] = None,
    period: Annotated[float, typer.Option(help="Step of vehicles and chargers, s.", min=0.1, max=60.0)] = 1.0,
    meter_period: Annotated[int, typer.Option(help="Shortest interval of meter reports, s.", min=1, max=86_400)] = 60,
    charge_kw: Annotated[float, typer.Option(help="Rated charging power, kW.", min=0.1, max=1000.0)] = 11.0,
    discharge_kw: Annotated[float, typer.Option(help="Rated discharging power, kW.", min=0.0, max=1000.0)] = 11.0,
    fallback_kw: Annotated[
        float, typer.Option(help="Power without a charging profile, kW.", min=0.0, max=1000.0)
    ] = 0.0,
    model: Annotated[str, typer.Option(help="How they follow a setpoint: fast or measured_v2g.")] = "measured_v2g",
    stay_h: Annotated[float, typer.Option(help="How long a vehicle stays, hours.", min=0.001, max=8760.0)] = 8.0,
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds.", min=0.0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The end's figures as JSON on stdout.")] = False,
) -> None:
    """Stations with vehicles that obey a CSMS. Ends with 0 if all were accepted, 1 if not, 2 on an option that cannot be meant."""
    from gridtide.app.commands.told import told

    with told():
        from gridtide.app.commands.options import one_of
        from gridtide.app.logs import configure
        from gridtide.run.emulator.fleet import Count, FleetPlan
        from gridtide.run.emulator.fleet_processes import run_spread
        from gridtide.twin.evse import MODELS

        one_of(version, ["2.1", "2.0.1"], "--version")
        one_of(model, MODELS, "--model")
        known: dict[str, Any] = {"version": version, "profile": profile}
        step_s = min(period, meter_period / 2.0)  # a slower step would leave out every other report
        check_access(csms, profile, ca, certificates)
        if profile == 3 and count is None and passwords is None and password_env is None:
            names, secrets = certified(certificates), dict[str, str]()
        else:
            names, secrets = identities(count, id_prefix, profile, passwords, password_env)
        check_files(certificates, names if profile == 3 else ())
        plan = FleetPlan(
            csms=csms, identities=names, passwords=secrets, ca=None if ca is None else str(ca),
            certificates=None if certificates is None else str(certificates), ramp_per_s=ramp, period_s=step_s,
            tick_s=max(step_s, min(5.0, meter_period / 2.0)), meter_s=meter_period, charge_kw=charge_kw, discharge_kw=discharge_kw,
            fallback_kw=fallback_kw, model=model, stay_s=stay_h * 3600.0, faults=faults_of(fault or []), **known,
        )  # fmt: skip
        configure(logging.WARNING)
        raise_file_limit(len(names))
        best = [Count()]

        def tell(now: Count) -> None:
            best[0] = max(best[0], now, key=lambda told: told.accepted)
            show(now, ends=False)

        last = run_spread(plan, processes, tell, exit_after)
        show(last, ends=True)
    accepted = max(last.accepted, best[0].accepted)
    if not accepted:
        typer.echo(f"No station was accepted: {_cures(profile, ca)}", err=True)
    if as_json:
        typer.echo(summary(last, accepted))
    raise typer.Exit(0 if accepted >= LEAST_ACCEPTED * len(names) else 1)


def check_access(csms: str, profile: int, ca: Path | None, certificates: Path | None) -> None:
    """Raises ValueError where address, profile and files do not fit together."""
    from gridtide.app.commands.emulate import check_csms

    check_csms(csms)
    is_tls = csms.startswith("wss:")
    if is_tls != (profile >= 2) and profile != 0:
        scheme = "wss" if profile >= 2 else "ws"
        raise ValueError(
            f"--profile is {profile} and --csms {csms[:100]!r}: give an address that begins with {scheme}://"
        )
    if profile == 0 and is_tls:
        raise ValueError("--profile is 0: it goes over ws:// only; choose profile 2 for wss://")
    if ca is not None and not ca.is_file():
        raise ValueError(f"--ca is {ca}: there is no such file; give a PEM file of certificates")
    if (profile == 3) != (certificates is not None):
        raise ValueError("--certificates goes with --profile 3: give the folder with IDENTITY.crt and IDENTITY.key")


def _cures(profile: int, ca: Path | None) -> str:
    """What to look at when nobody came in. The CSMS tells a station no reason, on purpose."""
    looks = ["is there a CSMS at --csms"]
    if profile >= 2:
        looks.append("did --ca sign its certificate, for the name in --csms" if ca else "is --ca missing")
    looks.append({0: "does it let stations in without a password", 3: "does it know these certificates"}.get(
        profile, "does it know these stations, passwords and this profile"
    ))  # fmt: skip
    return f"{', '.join(looks)}? Its own events say more."


def certified(folder: Path | None) -> tuple[str, ...]:
    """Identities that `folder` holds a certificate of; raises ValueError if there is none."""
    names = tuple(sorted(path.stem for path in folder.glob("*.crt"))) if folder is not None else ()
    if not names:
        raise ValueError(
            f"--certificates is {folder}: there is no IDENTITY.crt; give the folder of the stations' files"
        )
    return names


def identities(
    count: int | None, prefix: str, profile: int, passwords: Path | None, password_env: str | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of the stations and their passwords; raises ValueError with the cure."""
    from gridtide.app.commands.emulate import read_passwords
    from gridtide.wire.ocpp.actions import identity_of

    if passwords is not None and password_env is not None:
        raise ValueError("--passwords and --password-env: give one of them")
    if passwords is not None and profile in (1, 2):
        secrets = read_passwords(passwords)
        if count is not None and len(secrets) < count:
            raise ValueError(f"--count is {count}: {passwords} holds {len(secrets)} stations; give at most that many")
        return tuple(secrets)[:count], secrets
    names = tuple(f"{prefix}{number:05d}" for number in range(1, (count or USUAL_COUNT) + 1))
    if len(prefix) > PREFIX_CHARS or identity_of(names[0]) != names[0]:
        raise ValueError(f"--id-prefix is {prefix[:60]!r}: give at most {PREFIX_CHARS} letters, digits or *+=:|@._-")
    if profile not in (1, 2):
        if passwords is not None or password_env is not None:
            raise ValueError(f"--profile is {profile}: it uses no password; leave out --passwords and --password-env")
        return names, {}
    secret = os.environ.get(password_env or "", "")
    if not secret:
        raise ValueError(
            f"--profile is {profile}: it needs passwords; give --passwords FILE, or --password-env NAME of a variable that is set"
        )
    return names, dict.fromkeys(names, secret)


def check_files(folder: Path | None, names: tuple[str, ...]) -> None:
    """Raises ValueError naming the first certificate or key that is missing."""
    for name in names if folder is not None else ():
        for ending in (".crt", ".key"):
            path = Path(str(folder)) / f"{name}{ending}"
            if not path.is_file():
                raise ValueError(
                    f"--certificates: there is no {path}; every station needs IDENTITY.crt and IDENTITY.key"
                )


def faults_of(texts: list[str]) -> dict[str, float]:
    """Share by fault from NAME=SHARE texts; raises ValueError."""
    from gridtide.run.emulator.fleet import FAULTS

    shares: dict[str, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if name not in FAULTS or not 0.0 <= value <= 1.0:
            raise ValueError(
                f"--fault is {text[:60]!r}: give NAME=SHARE with a share of 0 to 1 and one of {', '.join(FAULTS)}"
            )
        shares[name] = value
    return shares


def raise_file_limit(count: int) -> None:
    """Make room for a socket a station; raises ValueError if this machine does not let us."""
    import resource

    needed = count + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ValueError(
                f"--count is {count}: this user may open {hard} files at most; raise `ulimit -n` to {needed}"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def show(now: Any, *, ends: bool) -> None:
    """The progress on stderr: one line that is written anew on a terminal."""
    line = (
        f"{now.connected}/{now.stations} connected, {now.accepted} accepted, {now.transactions} transactions, "
        f"{now.power_kw:.1f} kW, {now.errors} errors"
    )
    if sys.stderr.isatty():
        typer.echo(f"\r{line}\x1b[K", err=True, nl=ends)
    elif ends:
        typer.echo(line, err=True)


def summary(last: Any, accepted: int) -> str:
    """The end's figures as JSON."""
    import msgspec

    told = {name: getattr(last, name) for name in last.__struct_fields__}
    return msgspec.json.encode(told | {"most_accepted": accepted}).decode()
