"""The admin's own forms of sign-in and password: Django's, with our refusals shown where they belong."""

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from apps.auth.models import Role, User
from apps.auth.services import people, roles
from apps.core.errors import DomainError


def form_error(error: DomainError) -> ValidationError:
    """The refusal as a form shows it: each fault's sentence, else the refusal's own."""
    return ValidationError([str(each.message) for each in error.errors] or [str(error)])


class SignInForm(AdminAuthenticationForm):
    """Says that the attempts are throttled or that the account is disabled."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except DomainError as error:
            raise form_error(error) from None


class OwnPasswordForm(AdminPasswordChangeForm):
    """One's own password, changed by the service: throttled, told, every session ended."""

    def __init__(self, *args: Any, address: str | None = None, **kwargs: Any) -> None:
        self.address = address
        super().__init__(*args, **kwargs)

    def clean_old_password(self) -> str:
        return str(self.cleaned_data["old_password"])  # the service checks it, throttled

    def clean(self) -> dict[str, Any]:
        """Changes the password, once everything else is right: only here can a refusal still be shown."""
        data = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                people.change_password(
                    user=self.user,
                    current=data["old_password"],
                    new=data["new_password1"],
                    address=self.address,
                )
            except DomainError as error:
                self.add_error("new_password1" if error.errors else "old_password", form_error(error))
        return data

    def save(self, commit: bool = True) -> User:
        self.user.refresh_from_db()
        return self.user


def _password_field(**kwargs: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=_("new password"), strip=False, widget=widget, **kwargs)


class PersonForm(forms.ModelForm):
    """A user in the admin. The password is only ever set, never shown."""

    new_password = _password_field(
        required=False, help_text=_("Empty keeps the password. A new one ends all sessions.")
    )

    roles = forms.ModelMultipleChoiceField(
        Role.objects.all(), label=_("roles"), required=False, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = User
        fields = ["email", "full_name", "enabled", "roles"]

    def clean_new_password(self) -> str:
        password = str(self.cleaned_data["new_password"])
        if password:
            try:
                people.refuse_weak_password(password, self.instance, field="new_password")
            except DomainError as error:
                raise form_error(error) from None
        return password


class NewPersonForm(PersonForm):
    new_password = _password_field()

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).strip().lower()


class RoleForm(forms.ModelForm):
    class Meta:
        model = Role
        fields = ["name", "description"]

    def clean_name(self) -> str:
        try:
            return roles.stored_name(str(self.cleaned_data["name"]))
        except DomainError as error:
            raise form_error(error) from None
