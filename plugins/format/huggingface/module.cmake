# The Python files are part of the module, which is built again when they change.
target_compile_definitions(${MODULE} PRIVATE MODELING="${folder}")
set_source_files_properties(${folder}/huggingface.c PROPERTIES OBJECT_DEPENDS
    "${folder}/modeling_parts.py;${folder}/modeling_tandem.py")
