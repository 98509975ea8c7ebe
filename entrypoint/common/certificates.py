"""What helps where a server's certificate is not believed: a file of authorities, or the clock."""

from __future__ import annotations

import ssl
import time
from typing import Final

from entrypoint.common.language import _

# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
TIMES: Final = (9, 10)


def remedy(error: ssl.SSLCertVerificationError, variable: str) -> str:
    """Return what to do next; `variable` of the environment names the authorities' file."""
    if error.verify_code in TIMES:
        return _("This machine's clock says {date}: set it, if that is wrong.").format(
            date=time.strftime("%Y-%m-%d")
        )
    return _("Name a file of certificates to trust: {variable}").format(variable=variable)
