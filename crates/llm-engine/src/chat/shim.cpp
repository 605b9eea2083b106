// JSON in, JSON out, around llama.cpp's own template engine. No exception may pass into Rust, which would end the process.
#include "chat.h"
#include "common.h"
#include "json.h"

#include <cstdlib>
#include <cstring>

namespace {

char * copy(const std::string & text) {
    char * out = (char *) malloc(text.size() + 1);
    if (out) {
        memcpy(out, text.c_str(), text.size() + 1);
    }
    return out;
}

// Runs the body; its text, or the text of what it threw, is left in `out`, and true means that it did not throw.
template <typename Body> bool guarded(char ** out, Body body) {
    try {
        *out = copy(body());
        return true;
    } catch (const std::exception & error) {
        *out = copy(error.what());
    } catch (...) {
        *out = copy("an unknown exception");
    }
    return false;
}

common_chat_templates_inputs inputs(const common_json & request) {
    common_chat_templates_inputs in;
    in.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
    if (request.contains("tools")) {
        in.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
    }
    if (request.contains("kwargs")) {
        for (const auto & [key, value] : request.at("kwargs").items()) {
            in.chat_template_kwargs[key] = value.dump();
        }
    }
    in.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    return in;
}

std::string rendered(const common_chat_params & params) {
    auto out = common_json::object();
    out["prompt"] = params.prompt;
    out["stops"]  = params.additional_stops;
    return out.dump();
}

}  // namespace

struct engine_chat {
    common_chat_templates_ptr templates;
};

extern "C" {

engine_chat * engine_chat_new(const llama_model * model, const char * source, char ** error) {
    engine_chat * made = nullptr;
    guarded(error, [&] {
        auto templates = common_chat_templates_init(model, source);
        made = new engine_chat{ std::move(templates) };
        return std::string();
    });
    return made;
}

void engine_chat_free(engine_chat * chat) {
    delete chat;
}

void engine_text_free(char * text) {
    free(text);
}

// {"supports_tools": true, ..}: what the template can say.
bool engine_chat_abilities(const engine_chat * chat, char ** out) {
    return guarded(out, [&] {
        auto list = common_json::object();
        for (const auto & [name, able] : common_chat_templates_get_caps(chat->templates.get())) {
            list[name] = able;
        }
        return list.dump();
    });
}

// {messages, tools?, kwargs?} -> {prompt, stops}
bool engine_chat_render(const engine_chat * chat, const char * request, char ** out) {
    return guarded(out, [&] {
        return rendered(common_chat_templates_apply(chat->templates.get(), inputs(common_json::parse(request))));
    });
}

}
