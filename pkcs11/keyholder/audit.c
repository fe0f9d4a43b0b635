#include "pkcs11/keyholder/audit.h"

#include "base/log.h"
#include "pkcs11/mechanism.h"

void audit_write(const struct audit *audit)
{
    enum error_category category = audit->reason.category;
    bool signed_now = category == ERROR_NONE;
    enum log_level level = signed_now ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;

    LOG_WRITE(level, "key used", LOG_TEXT("identity", audit->identity),
              LOG_NUMBER("tunnel", audit->tunnel & ~KEYHOLDER_BACKGROUND),
              LOG_TEXT("ahead", audit->tunnel >= KEYHOLDER_BACKGROUND ? "true" : NULL),
              LOG_TEXT("scheme", mechanism_scheme_name(audit->scheme)), LOG_NUMBER("bytes", audit->length),
              LOG_TEXT("mechanism", audit->mechanism), LOG_NUMBER("sign_ms", audit->sign_ms),
              LOG_TEXT("result", signed_now                 ? "signed"
                                 : category == ERROR_VERIFY ? "refused"
                                                            : "failed"),
              LOG_TEXT("category", signed_now ? NULL : error_category_name(category)),
              LOG_TEXT("reason", signed_now ? NULL : audit->reason.text));
}
