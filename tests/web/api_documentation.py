"""Swagger UI as a person uses it."""

from playwright.sync_api import Locator, Page


def operation(page: Page, method: str, path: str) -> Locator:
    """The part of the page that describes the call."""
    return page.locator(f".opblock-{method}").filter(has=page.locator(f"[data-path='{path}']"))


def execute(page: Page, method: str, path: str) -> Locator:
    """Call it with what the form holds; the part of the page with the answer."""
    shown = operation(page, method, path)
    shown.locator(".opblock-summary-control").click()
    shown.get_by_role("button", name="Try it out").click()
    shown.get_by_role("button", name="Execute").click()
    return shown.locator(".live-responses-table .response")
