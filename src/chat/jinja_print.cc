#include "chat/jinja_print.h"

#include <cmath>

#include "chat/jinja_number.h"
#include "chat/jinja_ops.h"

namespace tidal::jinja {
namespace {

// Appends the repr of values. Only namespaces can be cyclic, so only these need the depth.
class ReprWriter {
 public:
  ReprWriter(Runtime* runtime, std::string* out) : runtime_(runtime), out_(out) {}

  Status Write(const Value& value) {
    TIDAL_RETURN_IF_ERROR(runtime_->Tick());
    TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(static_cast<int64_t>(out_->size())));
    switch (value.kind()) {
      case Kind::kMissing:
      case Kind::kUndefined:
        *out_ += "Undefined";
        break;
      case Kind::kNone:
        *out_ += "None";
        break;
      case Kind::kBool:
        *out_ += value.boolean() ? "True" : "False";
        break;
      case Kind::kInt:
        *out_ += std::to_string(value.integer());
        break;
      case Kind::kFloat:
        *out_ += FormatFloat(value.floating());
        break;
      case Kind::kString:
        TIDAL_RETURN_IF_ERROR(runtime_->TickConvert(value.text().size()));
        *out_ += value.is_markup() ? "Markup(" + Quote(value.text()) + ")" : Quote(value.text());
        break;
      case Kind::kList:
        return WriteItems("[", value.items(), "]");
      case Kind::kTuple:
        return WriteItems("(", value.items(), value.items().size() == 1 ? ",)" : ")");
      case Kind::kDict:
        return WriteMap(value.dict().map);
      case Kind::kRange:
        WriteRange(value.range());
        break;
      case Kind::kDictView:
        return WriteView(value);
      case Kind::kNamespace:
        return WriteNamespace(value.name_space());
      default:
        *out_ += fmt::format("<{} object>", TypeName(value));
    }
    return OkStatus();
  }

 private:
  Status WriteItems(std::string_view open, const std::vector<Value>& items,
                    std::string_view close) {
    *out_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) *out_ += ", ";
      TIDAL_RETURN_IF_ERROR(Write(items[i]));
    }
    *out_ += close;
    return OkStatus();
  }

  Status WriteMap(const OrderedMap& map) {
    *out_ += "{";
    for (size_t i = 0; i < map.size(); ++i) {
      if (i > 0) *out_ += ", ";
      TIDAL_RETURN_IF_ERROR(Write(map.entries()[i].key));
      *out_ += ": ";
      TIDAL_RETURN_IF_ERROR(Write(map.entries()[i].value));
    }
    *out_ += "}";
    return OkStatus();
  }

  void WriteRange(const RangeObject& range) {
    *out_ += range.step == 1
                 ? fmt::format("range({}, {})", range.start, range.stop)
                 : fmt::format("range({}, {}, {})", range.start, range.stop, range.step);
  }

  Status WriteView(const Value& view) {
    *out_ += TypeName(view);
    TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> items, Drain(runtime_, view));
    return WriteItems("([", items, "])");
  }

  Status WriteNamespace(const NamespaceObject& object) {
    if (namespace_depth_ >= kMaxNamespaceDepth) {
      return InvalidArgument(
          "the template prints a namespace that holds itself, or too many of them");
    }
    ++namespace_depth_;
    *out_ += "<Namespace ";
    TIDAL_RETURN_IF_ERROR(WriteMap(object.attributes));
    *out_ += ">";
    --namespace_depth_;
    return OkStatus();
  }

  // Each may hold a value of kMaxValueHeight levels, so a few is all that a bounded stack allows.
  static constexpr int kMaxNamespaceDepth = 8;

  Runtime* runtime_;
  std::string* out_;
  int namespace_depth_ = 0;
};

class JsonWriter {
 public:
  JsonWriter(Runtime* runtime, const JsonStyle& style, std::string* out)
      : runtime_(runtime), style_(style), out_(out) {}

  Status Write(const Value& value) {
    TIDAL_RETURN_IF_ERROR(runtime_->Tick());
    TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(static_cast<int64_t>(out_->size())));
    switch (value.kind()) {
      case Kind::kString:
        TIDAL_RETURN_IF_ERROR(runtime_->TickConvert(value.text().size()));
        AppendJsonString(value.text(), style_.charset, out_);
        return OkStatus();
      case Kind::kList:
      case Kind::kTuple:
        return WriteItems(value.items());
      case Kind::kDict:
        return WriteMap(value.dict().map);
      default: {
        TIDAL_ASSIGN_OR_RETURN(const std::string text, Scalar(value));
        *out_ += text;
        return OkStatus();
      }
    }
  }

 private:
  static Result<std::string> Scalar(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        return std::string("null");
      case Kind::kBool:
        return std::string(value.boolean() ? "true" : "false");
      case Kind::kInt:
        return std::to_string(value.integer());
      case Kind::kFloat:
        if (std::isnan(value.floating())) return std::string("NaN");
        if (std::isinf(value.floating())) {
          return std::string(value.floating() > 0 ? "Infinity" : "-Infinity");
        }
        return FormatFloat(value.floating());
      default:
        return TypeError("a value that JSON can hold", value);
    }
  }

  Status NewLine(int32_t depth) {
    if (!style_.multiline) return OkStatus();
    *out_ += '\n';
    TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(
        static_cast<int64_t>(out_->size() + style_.indent.size() * static_cast<size_t>(depth))));
    for (int32_t i = 0; i < depth; ++i) *out_ += style_.indent;
    return OkStatus();
  }

  Status WriteItems(const std::vector<Value>& items) {
    if (items.empty()) {
      *out_ += "[]";
      return OkStatus();
    }
    *out_ += '[';
    ++depth_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) *out_ += style_.item_separator;
      TIDAL_RETURN_IF_ERROR(NewLine(depth_));
      TIDAL_RETURN_IF_ERROR(Write(items[i]));
    }
    TIDAL_RETURN_IF_ERROR(NewLine(--depth_));
    *out_ += ']';
    return OkStatus();
  }

  Status WriteMap(const OrderedMap& map) {
    if (map.size() == 0) {
      *out_ += "{}";
      return OkStatus();
    }
    std::vector<const OrderedMap::Entry*> entries;
    for (const OrderedMap::Entry& entry : map.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      TIDAL_RETURN_IF_ERROR(StableSort(&entries, [this](const auto* a, const auto* b) {
        return Compare(runtime_, CompareOp::kLess, a->key, b->key);
      }));
    }
    *out_ += '{';
    ++depth_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) *out_ += style_.item_separator;
      TIDAL_RETURN_IF_ERROR(NewLine(depth_));
      TIDAL_RETURN_IF_ERROR(WriteKey(entries[i]->key));
      *out_ += style_.key_separator;
      TIDAL_RETURN_IF_ERROR(Write(entries[i]->value));
    }
    TIDAL_RETURN_IF_ERROR(NewLine(--depth_));
    *out_ += '}';
    return OkStatus();
  }

  Status WriteKey(const Value& key) {
    if (key.is_string()) return Write(key);
    TIDAL_ASSIGN_OR_RETURN(const std::string text, Scalar(key));
    AppendJsonString(text, style_.charset, out_);
    return OkStatus();
  }

  Runtime* runtime_;
  const JsonStyle& style_;
  std::string* out_;
  int32_t depth_ = 0;
};

}  // namespace

Result<std::string> ToText(Runtime* runtime, const Value& value) {
  if (value.is_string()) {
    TIDAL_RETURN_IF_ERROR(runtime->TickCopy(value.text().size()));
    return std::string(value.text());
  }
  if (value.is_undefined()) return std::string();
  return ToRepr(runtime, value);
}

Result<std::string> ToRepr(Runtime* runtime, const Value& value) {
  std::string out;
  TIDAL_RETURN_IF_ERROR(ReprWriter(runtime, &out).Write(value));
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(out.size())));
  return out;
}

Result<std::string> ToJson(Runtime* runtime, const Value& value, const JsonStyle& style) {
  std::string out;
  TIDAL_RETURN_IF_ERROR(JsonWriter(runtime, style, &out).Write(value));
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(out.size())));
  return out;
}

}  // namespace tidal::jinja
