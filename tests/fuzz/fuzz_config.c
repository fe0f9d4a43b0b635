/* Configuration texts: both files' schemas over arbitrary bytes. */
#include "agent/agent_config.h"
#include "gateway/gateway_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool gateway, const char *text, size_t length)
{
    struct config_source source = {.file = "/nowhere/x.conf", .text = text, .length = length, .expand = true};
    struct config_errors errors = {0};
    struct config *config = NULL;
    struct settings *settings = calloc(1, sizeof(*settings));
    const struct config_schema *schema = gateway ? &gateway_config_schema : &agent_config_schema;

    if (settings != NULL && config_parse(schema, &source, &errors, &config) == ERROR_NONE) {
        struct config *again = NULL;

        if (gateway)
            gateway_config_check(config, &errors, settings);
        else
            agent_config_check(config, &errors, settings);
        settings_free(settings);
        /* What was accepted once must be accepted by the process that gets the expanded text. */
        source =
            (struct config_source){.file = "/nowhere/x.conf", .text = config->text, .length = strlen(config->text)};
        config_errors_free(&errors);
        if (config_parse(schema, &source, &errors, &again) != ERROR_NONE)
            abort();
        config_free(again);
        config_free(config);
    }
    config_errors_free(&errors);
    free(settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check(size > 0 && (data[0] & 1) != 0, text, size);
    free(text);
    return 0;
}
