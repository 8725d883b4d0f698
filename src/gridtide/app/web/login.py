"""Signing in and out in a browser: one-time links, and a form for users with a password. The form needs no script."""

from html import escape
from typing import Annotated

from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import Cookie, State
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation, URLEncodedBody
from litestar.response import Redirect
from litestar.status_codes import HTTP_200_OK, HTTP_303_SEE_OTHER
from msgspec import Meta, Struct

from gridtide.app.web.auth import COOKIE, SESSION_LIFE_S, Access, Refused
from gridtide.app.web.gate import asked

Doors = NamedDependency[SkipValidation[Access]]
AnyRequest = Request[None, None, State]
_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · gridtide</title>
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<div class="page">
<section class="auth" role="main">
<h1>Sign in</h1>
<p class="sub">With your name and password, or with the address that gridtide printed when it started.</p>
{error}
<form class="login" method="post" action="/login">
<p><label>Name<br><input name="name" autocomplete="username" maxlength="64" required autofocus></label></p>
<p><label>Password<br><input name="password" type="password" autocomplete="current-password" maxlength="200" required></label></p>
<p><button class="primary" type="submit">Sign in</button></p>
</form>
</section>
</div>
</body>
</html>
"""


class LoginWish(Struct, frozen=True, forbid_unknown_fields=True):
    """The form's fields."""

    name: Annotated[str, Meta(max_length=64)]
    password: Annotated[str, Meta(max_length=200)]


class Left(Struct, frozen=True):
    """Answer to signing out."""

    changed: bool
    """False where nobody was signed in."""


@get("/login", include_in_schema=False)
async def login_link(
    request: AnyRequest, access: Doors, token: Annotated[str, QueryParameter(max_length=200)] = ""
) -> Response[str] | Redirect:
    """Trade a one-time token for the session cookie, or show the form; a signed-in browser just goes on to the page."""
    wish = asked(request.scope)
    if not token:
        return _to_page() if access.has_session(wish) else _form(200)
    try:
        return _to_page(_cookie(access, access.redeem(token, wish.peer)))
    except Refused:
        if access.has_session(wish):
            return _to_page()
        raise


@post("/login", include_in_schema=False, opt={"role": "anyone"})
async def login_form(request: AnyRequest, access: Doors, data: URLEncodedBody[LoginWish]) -> Response[str] | Redirect:
    """Trade a user's name and password for the session cookie. The gate lets only our own page's form come here."""
    try:
        session = await access.enter(asked(request.scope), data.name, data.password)
    except Refused as error:
        return _form(error.status, str(error))
    return _to_page(_cookie(access, session))


@post("/logout", status_code=HTTP_200_OK, include_in_schema=False, opt={"role": "viewer"})
async def logout(request: AnyRequest, access: Doors) -> Left:
    """End this browser's session."""
    return Left(access.leave(asked(request.scope)))


def _form(status: int, error: str = "") -> Response[str]:
    """The page with the form. Under the site's usual `no-referrer` a browser would send its form with Origin null."""
    told = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return Response(
        _FORM.format(error=told),
        status_code=status,
        media_type=MediaType.HTML,
        headers={"Referrer-Policy": "same-origin"},
    )


def _to_page(cookie: Cookie | None = None) -> Redirect:
    return Redirect("/", status_code=HTTP_303_SEE_OTHER, cookies=[cookie] if cookie is not None else [])


def _cookie(access: Access, session: str) -> Cookie:
    return Cookie(
        COOKIE, value=session, httponly=True, samesite="strict", secure=access.secure, max_age=int(SESSION_LIFE_S)
    )


LOGIN = (login_link, login_form, logout)
