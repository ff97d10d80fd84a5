# Run as `cmake -P` by EvlCargo.cmake: builds one library and copies it, with its symlinks and the header, to where the
# imported targets look. What cargo made and where is read from cargo's own messages.

set(arguments rustc --lib --crate-type ${CRATE_TYPE} --profile ${PROFILE} --locked
  --manifest-path "${SOURCE_DIR}/Cargo.toml" --target-dir "${TARGET_DIR}" --message-format json-render-diagnostics)
if(HEADER STREQUAL "generated")
  list(APPEND arguments --features header)
endif()
separate_arguments(flags UNIX_COMMAND "${FLAGS}")
execute_process(COMMAND "${CARGO}" ${arguments} ${flags}
  WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE messages RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "cargo could not build evl (${failed}).")
endif()

function(copy from to)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E copy_if_different "${from}" "${to}" RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "cannot copy ${from} to ${to}.")
  endif()
endfunction()

if(CRATE_TYPE STREQUAL "cdylib")
  if(NOT messages MATCHES "\"(/[^\"\n]*/libevl\\.so)\"")
    message(FATAL_ERROR "cargo did not say where libevl.so is.")
  endif()
  copy("${CMAKE_MATCH_1}" "${OUTPUT_DIR}/libevl.so.${VERSION}")
  file(CREATE_LINK "libevl.so.${VERSION}" "${OUTPUT_DIR}/${SONAME}" SYMBOLIC)
  file(CREATE_LINK "${SONAME}" "${OUTPUT_DIR}/libevl.so" SYMBOLIC)
else()
  if(NOT messages MATCHES "\"(/[^\"\n]*/libevl\\.a)\"")
    message(FATAL_ERROR "cargo did not say where libevl.a is.")
  endif()
  copy("${CMAKE_MATCH_1}" "${OUTPUT_DIR}/libevl.a")
endif()

if(HEADER STREQUAL "generated")
  # Only evl itself is a path package; the registry's have another kind of id.
  if(NOT messages MATCHES "\"build-script-executed\",\"package_id\":\"path\\+file[^\n]*\"out_dir\":\"([^\"\n]*)\"")
    message(FATAL_ERROR "cargo did not say where the generated header is.")
  endif()
  copy("${CMAKE_MATCH_1}/evl.h" "${INCLUDE_DIR}/evl.h")
elseif(HEADER STREQUAL "committed")
  copy("${SOURCE_DIR}/include/evl.h" "${INCLUDE_DIR}/evl.h")
endif()
