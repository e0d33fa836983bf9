#include "js.h"

#include <algorithm>
#include <cmath>

namespace quetzal::js {

void dropException(napi_env env) {
  bool isPending = false;
  napi_value ignored;
  if (napi_is_exception_pending(env, &isPending) == napi_ok && isPending) {
    napi_get_and_clear_last_exception(env, &ignored);
  }
}

namespace {

Status typedArray(napi_env env, napi_value value, const char* name, napi_typedarray_type needed,
                  void*& data, size_t& length) {
  bool isTyped = false;
  napi_typedarray_type type = napi_uint8_array;
  if (napi_is_typedarray(env, value, &isTyped) != napi_ok || !isTyped ||
      napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != needed) {
    dropException(env);
    return failure("Cannot read %s: needs %s, found something else", name,
                   needed == napi_int32_array ? "an Int32Array" : "a Float32Array");
  }
  // A detached array has no memory.
  if (!data) length = 0;
  return {};
}

template <typename T>
Status copyOf(napi_env env, napi_value object, const char* name, napi_typedarray_type type,
              int64_t most, std::vector<T>& values) {
  napi_value value;
  void* data = nullptr;
  size_t length = 0;
  QUETZAL_TRY(property(env, object, name, value));
  QUETZAL_TRY(typedArray(env, value, name, type, data, length));
  const auto count = std::min<int64_t>(static_cast<int64_t>(length), std::max<int64_t>(most, 0));
  const T* begin = static_cast<const T*>(data);
  if (count > 0) values.assign(begin, begin + count);
  return {};
}

Status weightSpec(napi_env env, napi_value object, WeightSpec& weight) {
  int64_t type = 0;
  QUETZAL_TRY(string(env, object, "name", weight.name));
  QUETZAL_TRY(integer(env, object, "type", type));
  weight.type = static_cast<int32_t>(std::clamp<int64_t>(type, -1, 1000));
  QUETZAL_TRY(integer(env, object, "cols", weight.cols));
  QUETZAL_TRY(integer(env, object, "rows", weight.rows));
  QUETZAL_TRY(integer(env, object, "offset", weight.offset));
  return integer(env, object, "bytes", weight.bytes);
}

Status weightSpecs(napi_env env, napi_value object, std::vector<WeightSpec>& weights) {
  napi_value array, entry;
  bool isArray = false;
  uint32_t length = 0;
  QUETZAL_TRY(property(env, object, "weights", array));
  if (napi_is_array(env, array, &isArray) != napi_ok || !isArray ||
      napi_get_array_length(env, array, &length) != napi_ok || length > (1 << 16)) {
    dropException(env);
    return failure("Cannot read weights: needs an array of at most 65536, found %s",
                   isArray ? "more" : "something else");
  }
  for (uint32_t i = 0; i < length; ++i) {
    if (napi_get_element(env, array, i, &entry) != napi_ok) {
      dropException(env);
      return failure("Cannot read weights[%u]", i);
    }
    weights.emplace_back();
    QUETZAL_TRY(weightSpec(env, entry, weights.back()));
  }
  return {};
}

Status program(napi_env env, napi_value object, ModelSpec& spec) {
  napi_value value;
  std::vector<int32_t> tensors;
  QUETZAL_TRY(property(env, object, "program", value));
  QUETZAL_TRY(int32s(env, value, "tensors", all, tensors));
  for (size_t i = 0; i + 1 < tensors.size(); i += 2) {
    spec.tensors.push_back({tensors[i], tensors[i + 1]});
  }
  return int32s(env, value, "ops", all, spec.ops);
}

/// f16 unless it says otherwise.
Status kvType(napi_env env, napi_value kv, KvType& type) {
  napi_value value;
  napi_valuetype kind = napi_undefined;
  QUETZAL_TRY(property(env, kv, "type", value));
  if (napi_typeof(env, value, &kind) == napi_ok && kind == napi_undefined) return {};
  std::string name;
  QUETZAL_TRY(string(env, kv, "type", name));
  type = name == "q8_0" ? KvType::q8_0 : KvType::f16;
  if (name == "q8_0" || name == "f16") return {};
  return failure("Cannot load model: kv.type must be f16 or q8_0, is \"%.40s\"", name.c_str());
}

/// Absent: packed weights are kept nowhere.
Status packedSpec(napi_env env, napi_value object, PackedSpec& packed) {
  napi_value value;
  napi_valuetype kind = napi_undefined;
  QUETZAL_TRY(property(env, object, "packed", value));
  if (napi_typeof(env, value, &kind) == napi_ok && kind == napi_undefined) return {};
  QUETZAL_TRY(string(env, value, "path", packed.path));
  QUETZAL_TRY(string(env, value, "source", packed.source));
  if (packed.source.size() < 64) return {};
  return failure("Cannot load model: packed.source needs at most 63 bytes, found %zu",
                 packed.source.size());
}

}  // namespace

Status property(napi_env env, napi_value object, const char* name, napi_value& value) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, object, &type) == napi_ok &&
      (type == napi_object || type == napi_function) &&
      napi_get_named_property(env, object, name, &value) == napi_ok) {
    return {};
  }
  dropException(env);
  return failure("Cannot read %s: needs an object that has it", name);
}

Status integer(napi_env env, napi_value object, const char* name, int64_t& value) {
  napi_value found;
  double number = 0;
  QUETZAL_TRY(property(env, object, name, found));
  if (napi_get_value_double(env, found, &number) != napi_ok || !(std::fabs(number) <= 0x1p53) ||
      number != std::trunc(number)) {
    return failure("Cannot read %s: needs a whole number, found something else", name);
  }
  value = static_cast<int64_t>(number);
  return {};
}

Status string(napi_env env, napi_value object, const char* name, std::string& value) {
  napi_value found;
  size_t length = 0;
  QUETZAL_TRY(property(env, object, name, found));
  if (napi_get_value_string_utf8(env, found, nullptr, 0, &length) != napi_ok || length > 65536) {
    return failure("Cannot read %s: needs a string of at most 65536 bytes", name);
  }
  std::vector<char> text(length + 1);
  if (napi_get_value_string_utf8(env, found, text.data(), text.size(), &length) != napi_ok) {
    return failure("Cannot read %s: needs a string", name);
  }
  value.assign(text.data(), length);
  if (value.find('\0') == std::string::npos) return {};
  return failure("Cannot read %s: needs a string without NUL", name);
}

Status int32s(napi_env env, napi_value object, const char* name, int64_t most,
              std::vector<int32_t>& values) {
  return copyOf(env, object, name, napi_int32_array, most, values);
}

Status float32s(napi_env env, napi_value object, const char* name, int64_t most,
                std::vector<float>& values) {
  return copyOf(env, object, name, napi_float32_array, most, values);
}

Status floatView(napi_env env, napi_value value, const char* name, float*& data, size_t& length) {
  void* raw = nullptr;
  QUETZAL_TRY(typedArray(env, value, name, napi_float32_array, raw, length));
  data = static_cast<float*>(raw);
  return {};
}

Status modelSpec(napi_env env, napi_value object, ModelSpec& spec) {
  napi_value kv;
  QUETZAL_TRY(string(env, object, "path", spec.path));
  QUETZAL_TRY(packedSpec(env, object, spec.packed));
  QUETZAL_TRY(string(env, object, "isa", spec.isa));
  QUETZAL_TRY(integer(env, object, "threads", spec.threads));
  QUETZAL_TRY(integer(env, object, "rowsMax", spec.rowsMax));
  QUETZAL_TRY(integer(env, object, "outRowsMax", spec.outRowsMax));
  QUETZAL_TRY(property(env, object, "kv", kv));
  QUETZAL_TRY(kvType(env, kv, spec.kv.type));
  QUETZAL_TRY(integer(env, kv, "layers", spec.kv.layers));
  QUETZAL_TRY(integer(env, kv, "kvHeads", spec.kv.kvHeads));
  QUETZAL_TRY(integer(env, kv, "headDim", spec.kv.headDim));
  QUETZAL_TRY(integer(env, kv, "blockTokens", spec.kv.blockTokens));
  QUETZAL_TRY(integer(env, kv, "blocks", spec.kv.blocks));
  QUETZAL_TRY(weightSpecs(env, object, spec.weights));
  return program(env, object, spec);
}

Status stepInput(napi_env env, napi_value object, StepInput& in) {
  QUETZAL_TRY(integer(env, object, "rows", in.rows));
  QUETZAL_TRY(integer(env, object, "sequences", in.sequences));
  QUETZAL_TRY(integer(env, object, "outRows", in.outRows));
  // Counts beyond any limit are refused by checkBatch; here they only bound copies.
  const auto bounded = [](int64_t count) { return std::clamp<int64_t>(count, 0, 1 << 20); };
  QUETZAL_TRY(int32s(env, object, "tokenIds", bounded(in.rows), in.tokenIds));
  QUETZAL_TRY(int32s(env, object, "positions", bounded(in.rows), in.positions));
  QUETZAL_TRY(int32s(env, object, "sequenceTable", bounded(in.sequences) * 4, in.sequenceTable));
  QUETZAL_TRY(int32s(env, object, "blockTables", all, in.blockTables));
  QUETZAL_TRY(int32s(env, object, "outRowIndex", bounded(in.outRows), in.outRowIndex));
  QUETZAL_TRY(int32s(env, object, "samplingInts", bounded(in.outRows) * samplingIntWords,
                     in.samplingInts));
  QUETZAL_TRY(float32s(env, object, "samplingFloats", bounded(in.outRows) * samplingFloatWords,
                       in.samplingFloats));
  QUETZAL_TRY(int32s(env, object, "history", all, in.history));
  QUETZAL_TRY(int32s(env, object, "biasIds", all, in.biasIds));
  return float32s(env, object, "biasValues", all, in.biasValues);
}

napi_value error(napi_env env, const std::string& message) {
  napi_value text, result = nullptr;
  if (napi_create_string_utf8(env, message.data(), message.size(), &text) == napi_ok) {
    napi_create_error(env, nullptr, text, &result);
  }
  return result;
}

}  // namespace quetzal::js
